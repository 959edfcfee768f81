//! The content that Amazon SNS signs: docs.aws.amazon.com, "Verifying the signatures of Amazon SNS messages", and the
//! key lists of `aws-js-sns-message-validator`.

use crate::reader::{Json, Value};
use crate::scheme::reference::function::sns::FIELDS;

/// The fields that every message of its type has.
const NOTIFICATION: &[&str] = &["Message", "MessageId", "Timestamp", "TopicArn"];
const CONFIRMATION: &[&str] = &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn"];

/// Each field of the message, as its name and its value with a line feed after both. `None` if it is not a message of
/// SNS.
///
/// Only the message itself may contain a line feed: in another field a line feed could end it early, and one signature
/// would be good for two messages.
pub(super) fn canonical(message: Json<'_>) -> Option<String> {
    let required = match message.get("Type")?.as_str()? {
        "Notification" => NOTIFICATION,
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => CONFIRMATION,
        _ => return None,
    };
    if !required.iter().all(|name| message.get(name).is_some_and(|value| value.as_str().is_some())) {
        return None;
    }
    let mut out = String::new();
    for name in FIELDS {
        let Some(value) = message.get(name).filter(|value| value.value() != Value::Null) else { continue };
        let text = value.as_str().filter(|text| name == "Message" || !text.contains('\n'))?;
        out.push_str(name);
        out.push('\n');
        out.push_str(text);
        out.push('\n');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::canonical;
    use crate::header::HeaderList;
    use crate::reader;

    fn of(message: Value) -> Option<String> {
        let body = message.to_string();
        let content = reader::read(&HeaderList::default(), body.as_bytes(), 0);
        canonical(content.document().expect("JSON").root())
    }

    fn notification() -> Value {
        serde_json::json!({
            "Type": "Notification", "MessageId": "m1", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": "two\nlines",
            "Timestamp": "2012-05-02T00:54:06.655Z", "SignatureVersion": "1", "Signature": "x", "UnsubscribeURL": "u",
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut message = notification();
        message[name] = value;
        message
    }

    #[test]
    fn a_notification_is_signed_without_and_with_a_subject() {
        let plain = "Message\ntwo\nlines\nMessageId\nm1\nTimestamp\n2012-05-02T00:54:06.655Z\nTopicArn\n\
                     arn:aws:sns:eu-west-1:1:t\nType\nNotification\n";
        assert_eq!(of(notification()).as_deref(), Some(plain));
        assert_eq!(of(with("Subject", Value::Null)).as_deref(), Some(plain));
        let subject = plain.replace("Timestamp\n", "Subject\nhello\nTimestamp\n");
        assert_eq!(of(with("Subject", "hello".into())), Some(subject));
    }

    #[test]
    fn a_confirmation_is_signed_with_its_url_and_token() {
        for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
            let mut message = with("Type", kind.into());
            assert_eq!(of(message.clone()), None, "{kind} without a token");
            message["Token"] = "t1".into();
            message["SubscribeURL"] = "https://s".into();
            let signed = format!(
                "Message\ntwo\nlines\nMessageId\nm1\nSubscribeURL\nhttps://s\nTimestamp\n2012-05-02T00:54:06.655Z\n\
                 Token\nt1\nTopicArn\narn:aws:sns:eu-west-1:1:t\nType\n{kind}\n"
            );
            assert_eq!(of(message), Some(signed));
        }
    }

    #[test]
    fn a_field_that_is_no_text_or_could_hold_another_is_refused() {
        assert_eq!(of(with("Subject", "a\nTimestamp\nb".into())), None);
        assert_eq!(of(with("Subject", 1.into())), None);
        assert_eq!(of(with("MessageId", Value::Null)), None);
        assert_eq!(of(with("Type", "Other".into())), None);
        assert_eq!(of(Value::Null), None);
    }
}
