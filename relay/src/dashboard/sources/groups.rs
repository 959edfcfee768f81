//! The catalogue of providers, in groups to choose from.

use crate::control::providers::Provider;

/// Groups by what the providers are for. A provider that is in none of them is shown at the end.
const GROUPS: [(&str, &[&str]); 6] = [
    (
        "Payments and shops",
        &[
            "stripe",
            "shopify",
            "paypal",
            "adyen",
            "adyen-platform",
            "square",
            "paddle",
            "lemonsqueezy",
            "polar",
            "gocardless",
            "razorpay",
            "paystack",
            "revolut",
            "plaid",
            "chargebee",
            "recurly",
            "bigcommerce",
            "woocommerce",
            "coinbase-cdp",
            "coinbase-commerce",
            "xero",
            "zoho-payments",
        ],
    ),
    (
        "AI and media",
        &[
            "openai",
            "anthropic",
            "replicate",
            "fal",
            "gemini",
            "elevenlabs",
            "assemblyai",
            "deepgram",
            "runpod",
            "modal",
            "huggingface",
            "together",
            "bfl",
            "cartesia",
            "d-id",
            "firecrawl",
            "gladia",
            "heygen",
            "higgsfield",
            "kie",
            "kling",
            "langfuse",
            "luma",
            "openrouter",
            "pollo",
            "retell",
            "rev-ai",
            "runware",
            "speechmatics",
            "vapi",
            "livekit",
            "mux",
            "cloudflare-stream",
        ],
    ),
    (
        "Code and operations",
        &[
            "github",
            "gitlab",
            "gitlab-token",
            "bitbucket",
            "linear",
            "jira",
            "sentry",
            "vercel",
            "netlify",
            "circleci",
            "pagerduty",
            "trello",
            "asana",
            "monday",
            "notion",
            "airtable",
        ],
    ),
    (
        "Messages and customers",
        &[
            "slack",
            "discord",
            "telegram",
            "twilio",
            "sendgrid",
            "mailgun",
            "postmark",
            "resend",
            "courier",
            "customerio",
            "knock",
            "intercom",
            "zendesk",
            "hubspot",
            "hubspot-v1",
            "hubspot-v2",
            "pipedrive",
            "line",
            "meta",
            "x",
            "twitch",
            "vonage",
            "telnyx",
            "bird",
            "messagebird",
            "calendly",
            "typeform",
            "zoom",
            "docusign",
            "segment",
            "webflow",
        ],
    ),
    (
        "Cloud and identity",
        &[
            "aws-sns",
            "aws-sns-sha1",
            "gcp-pubsub",
            "azure-event-grid",
            "cloudflare-notifications",
            "fastly",
            "microsoft-graph",
            "okta",
            "clerk",
            "workos",
            "svix",
            "dropbox",
        ],
    ),
    ("Any other sender", &["standard-webhooks", "custom", "token", "basic", "none", "tidegate"]),
];

/// The group of what is in no other.
const FURTHER: &str = "Further providers";

/// A group of providers.
pub(in crate::dashboard) struct Group<P = Provider> {
    pub(in crate::dashboard) name: &'static str,
    pub(in crate::dashboard) providers: Vec<P>,
}

/// What a provider is found by.
pub(in crate::dashboard) trait Listed {
    fn id(&self) -> &str;
    fn name(&self) -> &str;
}

impl Listed for Provider {
    fn id(&self) -> &str {
        self.id
    }

    fn name(&self) -> &str {
        self.name
    }
}

/// The providers whose name or id contains `text`, in their groups.
pub(in crate::dashboard) fn groups<P: Listed>(mut providers: Vec<P>, text: &str) -> Vec<Group<P>> {
    let text = text.to_lowercase();
    providers.retain(|provider| provider.name().to_lowercase().contains(&text) || provider.id().contains(&text));
    let mut groups = Vec::new();
    for (name, ids) in GROUPS {
        let mut of = Vec::new();
        for id in ids {
            if let Some(at) = providers.iter().position(|provider| provider.id() == *id) {
                of.push(providers.remove(at));
            }
        }
        groups.push(Group { name, providers: of });
    }
    groups.push(Group { name: FURTHER, providers });
    groups.retain(|group| !group.providers.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use shared::provider::{self, catalogue};

    use super::*;

    impl Listed for &'static provider::Provider {
        fn id(&self) -> &str {
            &self.id
        }

        fn name(&self) -> &str {
            &self.name
        }
    }

    fn all() -> Vec<&'static provider::Provider> {
        catalogue().iter().collect()
    }

    #[test]
    fn each_provider_of_the_catalogue_is_in_one_group() {
        for (group, ids) in GROUPS {
            for id in ids {
                assert!(provider::find(id).is_some(), "{group}: there is no provider {id}");
            }
        }
        let groups = groups(all(), "");
        assert_eq!(groups.iter().map(|group| group.providers.len()).sum::<usize>(), catalogue().len());
        assert!(groups.iter().all(|group| group.name != FURTHER), "put a new provider into a group");
    }

    #[test]
    fn a_text_finds_names_and_ids_in_any_case() {
        let found = |text: &str| -> Vec<&str> {
            groups(all(), text).iter().flat_map(|group| &group.providers).map(|provider| provider.id.as_str()).collect()
        };
        assert_eq!(found("GITHUB"), ["github"]);
        assert!(found("standard-w").contains(&"standard-webhooks") && found("no such provider").is_empty());
    }
}
