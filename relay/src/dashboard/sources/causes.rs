//! What to do about requests that were rejected, by their cause.

/// What to do about a cause of rejections; empty if the detail of the rejection says it.
pub(in crate::dashboard) fn advice(cause: &str) -> &'static str {
    match cause {
        "header_missing" | "header_empty" | "field_missing" => {
            "The sender does not sign its requests, it is not the provider of this source, or a proxy on the way removes \
             the header. Compare the provider's settings with the set-up steps of this source."
        }
        "signature_mismatch" => {
            "Compare the end of the secret at the provider with the hints of this source's secrets: test and live mode, \
             and each endpoint, often have secrets of their own. If it is the same, check a pasted request to see which \
             bytes were signed."
        }
        "token_mismatch" | "credentials_malformed" => {
            "The request carries another secret than those of this source. Compare its end with the hints of the secrets."
        }
        "secret_retired" => {
            "The sender still uses a secret that was removed here. Add it again, or give the sender a current one."
        }
        "secret_with_white_space" => "Remove the blank or line feed at the end of the secret at the sender.",
        "secret_awaited" => {
            "The provider has not handed over its secret yet. Save the URL at the provider again: the provider then sends the secret."
        }
        "body_rewritten" => {
            "Something between the provider and the edge parses the body and writes it again. Pass it on byte for byte."
        }
        "timestamp_old" | "jwt_expired" => {
            "The sender repeats an old request, its clock is slow, or the request was long on its way. If this is expected, \
             raise the tolerance in the settings, or accept late requests."
        }
        "timestamp_future" | "jwt_not_yet_valid" => "The clock of the sender is ahead. Have it corrected there.",
        "timestamp_malformed" => "Check which unit the sender writes its time in: seconds or milliseconds.",
        "requirement_failed" | "jwt_claim_mismatch" | "jwt_claim_missing" => {
            "The request is signed, but not for this source. Compare the values in the settings with those of the provider."
        }
        "keys_unavailable" | "key_unknown" | "key_expired" | "key_location_refused" => {
            "The edge has no usable key of the provider. If this does not end by itself, see whether the provider has \
             changed where it publishes its keys."
        }
        "method_not_allowed" => {
            "If the provider sends its events by GET, allow that in the settings. Otherwise someone has opened the URL."
        }
        "rate_limited" => "The customer sends more events than its limit allows. Raise the limit, or have less sent.",
        "quarantine_full" => {
            "The quarantine of this hour is full. Mend the cause of the failed requests, or raise its limits in the settings."
        }
        "header_repeated"
        | "field_repeated"
        | "separator_inside"
        | "signature_version_missing"
        | "signature_malformed"
        | "too_many_signatures"
        | "jwt_malformed"
        | "jwt_algorithm" => {
            "The signature has not the form that this provider uses. See whether the source has the right provider."
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_causes_have_advice_and_an_unknown_one_has_none() {
        for cause in ["signature_mismatch", "header_missing", "timestamp_old", "quarantine_full", "token_mismatch"] {
            assert!(advice(cause).ends_with('.'), "{cause}");
        }
        assert_eq!(advice("of_a_later_version"), "");
    }
}
