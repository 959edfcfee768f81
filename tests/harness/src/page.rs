//! Pages of the documentation, for tests that follow their text.

use crate::error::{Doing as _, Error, Result};
use crate::place;

/// A page in Markdown.
#[derive(Debug, Clone)]
pub struct Page {
    path: String,
    text: String,
}

impl Page {
    /// Reads a page by its path from the root of the repository.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn read(path: &str) -> Result<Self> {
        let text = std::fs::read_to_string(place::repository().join(path));
        Ok(Self { path: path.to_owned(), text: text.doing(|| format!("cannot read {path}"))? })
    }

    /// Replaces what is different on each machine, such as a port.
    ///
    /// # Errors
    /// Returns an error if the page does not contain it.
    pub fn with(mut self, from: &str, to: &str) -> Result<Self> {
        if !self.text.contains(from) {
            return Err(Error::new(format!("{} does not contain {from}", self.path)));
        }
        self.text = self.text.replace(from, to);
        Ok(self)
    }

    /// The blocks of shell commands under a heading, without those under the headings of its level or above that follow.
    ///
    /// # Errors
    /// Returns an error if there is no such heading, or no block under it.
    pub fn blocks(&self, heading: &str) -> Result<Vec<String>> {
        let mut level = None;
        let mut in_fence = false;
        let mut block: Option<String> = None;
        let mut blocks = Vec::new();
        for line in self.text.lines() {
            let depth = if in_fence { 0 } else { line.bytes().take_while(|byte| *byte == b'#').count() };
            match level {
                None if depth > 0 && line.trim_start_matches('#').trim() == heading => level = Some(depth),
                None => {}
                Some(level) if depth > 0 && depth <= level => break,
                Some(_) if line == "```sh" && !in_fence => block = Some(String::new()),
                Some(_) if line.starts_with("```") => blocks.extend(block.take()),
                Some(_) => {
                    if let Some(block) = &mut block {
                        block.push_str(line);
                        block.push('\n');
                    }
                }
            }
            in_fence ^= line.starts_with("```");
        }
        match (level, blocks.is_empty()) {
            (None, _) => Err(Error::new(format!("{} has no heading \"{heading}\"", self.path))),
            (Some(_), true) => Err(Error::new(format!("{} has no commands under \"{heading}\"", self.path))),
            (Some(_), false) => Ok(blocks),
        }
    }
}

/// Splits a block into commands. Joins continued lines, and removes comments and repeated spaces.
#[must_use]
pub fn commands(block: &str) -> Vec<String> {
    let lines = block.replace("\\\n", " ");
    let commands = lines.lines().map(|line| {
        let command = line.split("  #").next().unwrap_or_default();
        command.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    commands.filter(|command| !command.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { path: "page.md".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn the_blocks_of_a_heading_end_with_the_next_heading_of_its_level_and_comments_are_no_headings() {
        let page = page(
            "# Page\n```sh\nzero\n```\n## One\ntext\n```sh\n# a comment\none \\\n  more\n```\n```json\n{}\n```\n\
             ### Part\n```sh\ntwo\n```\n## Two\n```sh\nthree\n```\n",
        );
        assert_eq!(page.blocks("One").expect("is there"), ["# a comment\none \\\n  more\n", "two\n"]);
        assert_eq!(page.blocks("Part").expect("is there"), ["two\n"]);
        assert_eq!(page.blocks("Page").expect("is there").len(), 4);
        let missing = page.blocks("Three").expect_err("is missing").to_string();
        assert_eq!(missing, "page.md has no heading \"Three\"");
    }

    #[test]
    fn a_text_that_is_replaced_has_to_be_on_the_page() {
        let page = page("## One\n```sh\ncurl 127.0.0.1:9000\n```\n");
        assert_eq!(page.clone().with(":9000", ":1").expect("is there").blocks("One").expect("is there").len(), 1);
        assert!(page.with(":8000", ":1").is_err());
    }

    #[test]
    fn continued_lines_are_one_command() {
        assert_eq!(commands("one  two \\\n   three  # why\n\nfour\n"), ["one two three", "four"]);
    }
}
