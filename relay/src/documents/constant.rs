//! Reads from their source the constants that the relay cannot import: those of the Worker in Rust and JavaScript, and
//! private ones of `shared`.

use super::read;

/// The value of `const NAME … = …;` in a file. The expression may use numbers, `+ - * / <<`, parentheses, casts, and
/// constants of the same file.
pub(super) fn constant(path: &str, name: &str) -> u64 {
    let text = read(path);
    let value = value(&text, name).unwrap_or_else(|| panic!("{path} has no constant {name} that can be read"));
    assert!(value > 0, "{name} of {path} is 0");
    value
}

fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| {
        line.split_once("const ")
            .is_some_and(|(_, rest)| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', ' '])))
    })?;
    let (_, expression) = line.split_once('=')?;
    let tokens = tokens(expression.trim().trim_end_matches(';'));
    let mut reader = Reader { text, tokens, at: 0 };
    let value = reader.shifted()?;
    (reader.at == reader.tokens.len()).then_some(value)
}

fn tokens(expression: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for character in expression.chars().filter(|character| *character != '"') {
        let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
        match tokens.last_mut() {
            Some(last) if is_word(character) && last.chars().all(is_word) => last.push(character),
            Some(last) if character == '<' && last == "<" => last.push('<'),
            _ => tokens.push(character.to_string()),
        }
    }
    let words = tokens.into_iter().filter(|token| !token.trim().is_empty()).collect::<Vec<_>>();
    // A cast does not change the number.
    let cast = words.iter().position(|word| word == "as").unwrap_or(words.len());
    words[..cast].to_vec()
}

struct Reader<'a> {
    text: &'a str,
    tokens: Vec<String>,
    at: usize,
}

impl Reader<'_> {
    fn takes(&mut self, wanted: &str) -> bool {
        let is_it = self.tokens.get(self.at).is_some_and(|token| token == wanted);
        self.at += usize::from(is_it);
        is_it
    }

    fn shifted(&mut self) -> Option<u64> {
        let mut value = self.sum()?;
        while self.takes("<<") {
            value <<= self.sum()?;
        }
        Some(value)
    }

    fn sum(&mut self) -> Option<u64> {
        let mut value = self.product()?;
        loop {
            if self.takes("+") {
                value += self.product()?;
            } else if self.takes("-") {
                value -= self.product()?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<u64> {
        let mut value = self.number()?;
        loop {
            if self.takes("*") {
                value *= self.number()?;
            } else if self.takes("/") {
                value /= self.number()?;
            } else {
                return Some(value);
            }
        }
    }

    fn number(&mut self) -> Option<u64> {
        if self.takes("(") {
            let value = self.shifted()?;
            return self.takes(")").then_some(value);
        }
        let token = self.tokens.get(self.at)?.clone();
        self.at += 1;
        token.replace('_', "").parse().ok().or_else(|| value(self.text, &token))
    }
}

#[test]
fn constants_have_the_values_that_the_compiler_computes() {
    let text = "const A: u64 = 2;\npub(crate) const B: usize = (A * 1_000 - 4) as u64;\nconst C = 4 << 20;\nconst AB = \"10\";";
    assert_eq!(
        (value(text, "A"), value(text, "B"), value(text, "C"), value(text, "AB")),
        (Some(2), Some(1_996), Some(4 << 20), Some(10))
    );
    assert_eq!(value(text, "D"), None);
    assert_eq!(value("const A: u8 = f(1);", "A"), None);
}
