//! The URL that `HubSpot` signs in version 3: developers.hubspot.com, "Validating requests".

/// The characters that are decoded; everything else stays as it was sent.
const DECODED: &[u8] = b":/?@!$'()*,;";

/// The URL with these characters of it decoded.
pub(super) fn uri(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|byte| DECODED.contains(byte));
        let length = match byte {
            Some(byte) => {
                out.push(char::from(byte));
                3
            }
            None => {
                out.push('%');
                1
            }
        };
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_characters_of_hubspots_list_are_decoded() {
        let every = "https://a.example/x?u=%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B";
        assert_eq!(uri(every), "https://a.example/x?u=:/?@!$'()*,;");
        assert_eq!(uri("https://a.example/x?u=%3a%2f"), "https://a.example/x?u=:/");
        for same in ["https://a.example/%20%26%3D%23%25%2B", "https://a.example/%", "https://a.example/%2", "/%zz%é"] {
            assert_eq!(uri(same), same);
        }
    }

    #[test]
    fn a_decoded_character_is_not_decoded_again() {
        assert_eq!(uri("/%253A"), "/%253A");
    }
}
