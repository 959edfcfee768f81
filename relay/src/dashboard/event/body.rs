//! The body of an event on its page. It is read only for a tab that shows it, because each read is recorded.

use model::event::Verification;

use super::difference::{self, Line};
use super::text::{self, Shown};
use crate::control::events::{self, EventDetail, Header};
use crate::control::given::GivenHeader;
use crate::control::sources::{self, CheckRequest, SourceCheck};
use crate::control::{Control, Error, Scope};
use crate::dashboard::failure::Failure;
use crate::dashboard::view;
use crate::dashboard::viewer::Viewer;

/// The value that the control layer shows for headers with credentials.
pub(in crate::dashboard) const HIDDEN: &str = "(not shown)";

/// The tabs of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dashboard) enum Tab {
    Headers,
    Query,
    Pretty,
    Raw,
    Hex,
    Changed,
    Check,
}

impl Tab {
    const ALL: [Self; 7] = [Self::Headers, Self::Query, Self::Pretty, Self::Raw, Self::Hex, Self::Changed, Self::Check];

    /// The tab that the URL names; the headers if it names none.
    pub(in crate::dashboard) fn of(name: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|tab| Some(tab.value()) == name).unwrap_or(Self::Headers)
    }

    pub(in crate::dashboard) const fn value(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Query => "query",
            Self::Pretty => "pretty",
            Self::Raw => "raw",
            Self::Hex => "hex",
            Self::Changed => "changed",
            Self::Check => "check",
        }
    }

    pub(in crate::dashboard) const fn name(self) -> &'static str {
        match self {
            Self::Headers => "Headers",
            Self::Query => "Query",
            Self::Pretty => "Body",
            Self::Raw => "Raw",
            Self::Hex => "Hex",
            Self::Changed => "Changed copy",
            Self::Check => "Verify again",
        }
    }

    /// The tabs of an event.
    pub(in crate::dashboard) fn of_event(detail: &EventDetail) -> Vec<Self> {
        let is_offered = |tab: &Self| match tab {
            Self::Query => !detail.query.is_empty(),
            Self::Changed => detail.changed_copy.is_some(),
            Self::Check => detail.event.source.is_some() && detail.event.verification != Verification::Edited,
            Self::Headers | Self::Pretty | Self::Raw | Self::Hex => true,
        };
        Self::ALL.into_iter().filter(is_offered).collect()
    }

    const fn reads(self) -> bool {
        matches!(self, Self::Pretty | Self::Raw | Self::Hex | Self::Changed | Self::Check)
    }
}

/// What a tab shows.
#[derive(Debug)]
pub(in crate::dashboard) enum Content {
    /// Headers, or the fields of the query.
    Pairs(Vec<(String, String)>),
    Text(Shown),
    Lines {
        lines: Vec<Line>,
        note: Option<String>,
    },
    Check(Box<SourceCheck>),
    /// The body may not be read, or is not kept: why, and what to do.
    Missing(String),
    /// The page is read again only for its live part.
    Unread,
}

/// What the tab shows. Only a tab that needs the body reads it.
pub(in crate::dashboard) async fn content(
    control: &Control,
    viewer: &Viewer,
    detail: &EventDetail,
    tab: Tab,
    is_refresh: bool,
) -> Result<Content, Failure> {
    let pairs =
        |headers: &[Header]| headers.iter().map(|header| (header.name.clone(), text::visible(&header.value))).collect();
    match tab {
        Tab::Headers => return Ok(Content::Pairs(pairs(&detail.headers))),
        Tab::Query => {
            let fields = url::form_urlencoded::parse(detail.query.as_bytes());
            return Ok(Content::Pairs(
                fields.map(|(name, value)| (text::visible(&name), text::visible(&value))).collect(),
            ));
        }
        Tab::Pretty | Tab::Raw | Tab::Hex | Tab::Changed | Tab::Check => {}
    }
    if tab.reads() && is_refresh {
        return Ok(Content::Unread);
    }
    if !viewer.may(Scope::Bodies) {
        let text = "Reading bodies needs the scope bodies, which this sign-in does not have. Sign in with a token that has \
                    it, or ask someone who administers this relay.";
        return Ok(Content::Missing(text.to_owned()));
    }
    match read(control, viewer, detail, tab).await {
        Ok(content) => Ok(content),
        Err(
            error
            @ (Error::BodyErased | Error::PastRetention(_) | Error::NotFound(_) | Error::Busy | Error::Invalid(_)),
        ) => Ok(Content::Missing(view::sentence(&Failure::from(error).problem().detail))),
        Err(error) => Err(error.into()),
    }
}

async fn read(control: &Control, viewer: &Viewer, detail: &EventDetail, tab: Tab) -> Result<Content, Error> {
    let id = detail.event.id.to_string();
    let kind = content_type(&detail.headers);
    let content = events::body(control, &viewer.actor, &id).await?;
    let bytes = content.body.as_ref();
    Ok(match tab {
        Tab::Raw => Content::Text(text::raw(bytes)),
        Tab::Hex => Content::Text(text::hex(bytes)),
        Tab::Changed => {
            let first = text::pretty(bytes, kind);
            // The first body is given back before the second one is read: both together could wait for each other.
            drop(content);
            let copy = events::changed_copy_body(control, &viewer.actor, &id).await?;
            compared(&first, &text::pretty(copy.body.as_ref(), kind))
        }
        Tab::Check => {
            let request = request(detail, bytes);
            drop(content);
            let source = detail.event.source_id.to_string();
            Content::Check(Box::new(sources::check(control, &viewer.actor, &source, request).await?))
        }
        Tab::Headers | Tab::Query | Tab::Pretty => Content::Text(text::pretty(bytes, kind)),
    })
}

/// The event as a request that is checked against its source.
fn request(detail: &EventDetail, body: &[u8]) -> CheckRequest {
    use base64::Engine as _;
    let given = |header: &Header| GivenHeader { name: header.name.clone(), value: header.value.clone() };
    CheckRequest {
        method: Some(detail.method.clone()),
        url: None,
        headers: Some(detail.headers.iter().filter(|header| header.value != HIDDEN).map(given).collect()),
        body_base64: Some(base64::engine::general_purpose::STANDARD.encode(body)),
        received_at: Some(view::rfc3339(detail.event.received_at.0)),
        ..CheckRequest::default()
    }
}

fn compared(first: &Shown, second: &Shown) -> Content {
    let lines = difference::compare(&first.text, &second.text);
    let is_cut = first.cut.is_some() || second.cut.is_some() || {
        let longest = first.text.lines().count().max(second.text.lines().count());
        longest > difference::COMPARED_LINES
    };
    let limit = difference::COMPARED_LINES;
    let note = is_cut.then(|| format!("Only the beginning is compared: up to {limit} lines of each body."));
    Content::Lines { lines, note }
}

/// The content type of the request.
pub(in crate::dashboard) fn content_type(headers: &[Header]) -> Option<&str> {
    headers.iter().find(|header| header.name == "content-type").map(|header| header.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_the_tab_and_only_those_that_show_a_body_read_it() {
        assert_eq!(Tab::of(None), Tab::Headers);
        assert_eq!(Tab::of(Some("\"><script>")), Tab::Headers);
        for tab in Tab::ALL {
            assert_eq!(Tab::of(Some(tab.value())), tab);
            assert_eq!(tab.reads(), !matches!(tab, Tab::Headers | Tab::Query));
        }
    }
}
