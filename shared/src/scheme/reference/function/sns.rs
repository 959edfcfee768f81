//! The fields of a message that Amazon SNS signs.

/// The fields that are signed if the message has them, in this order.
pub(crate) const FIELDS: [&str; 8] =
    ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];

/// Whether the field at a JSON pointer (RFC 6901) is among those that are signed.
pub(crate) fn covers(pointer: &str) -> bool {
    pointer.strip_prefix('/').is_some_and(|name| FIELDS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn the_topic_is_covered_and_the_address_of_the_certificate_is_not() {
        assert!(covers("/TopicArn") && !covers("/SigningCertURL") && !covers("/a/TopicArn") && !covers("TopicArn"));
    }
}
