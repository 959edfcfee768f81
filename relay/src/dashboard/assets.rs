//! What pages load: styles, scripts, fonts and icons. They are part of the program, so that the dashboard needs no
//! network and no other files.
//!
//! The name of an asset in a URL has a hash of its content, so that browsers may keep it for ever.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use sha2::{Digest as _, Sha256};

/// The bytes of the hash that are part of a name.
const HASH_BYTES: usize = 6;

/// The name of an asset, its type and its content. Files that others name in `url("…")` come before them.
const FILES: [(&str, &str, &[u8]); 9] = [
    ("inter.woff2", "font/woff2", include_bytes!("../../assets/vendor/inter.woff2")),
    ("mono.woff2", "font/woff2", include_bytes!("../../assets/vendor/mono.woff2")),
    ("icon.svg", "image/svg+xml", include_bytes!("../../assets/icon.svg")),
    ("tidegate.css", "text/css; charset=utf-8", include_bytes!("../../assets/tidegate.css")),
    ("tidegate.js", "text/javascript; charset=utf-8", include_bytes!("../../assets/tidegate.js")),
    ("htmx.js", "text/javascript; charset=utf-8", include_bytes!("../../assets/vendor/htmx.js")),
    ("idiomorph.js", "text/javascript; charset=utf-8", include_bytes!("../../assets/vendor/idiomorph-ext.js")),
    ("editor.js", "text/javascript; charset=utf-8", include_bytes!("../../assets/vendor/editor.js")),
    ("licenses.txt", "text/plain; charset=utf-8", include_bytes!("../../assets/vendor/LICENSES.txt")),
];

struct Assets {
    /// The path of each asset by its name.
    paths: HashMap<&'static str, String>,
    /// The type and the content of each asset by the last part of its path.
    files: HashMap<String, (&'static str, Vec<u8>)>,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut assets = Assets { paths: HashMap::new(), files: HashMap::new() };
    for (name, kind, content) in FILES {
        assets.add(name, kind, content);
    }
    assets
});

impl Assets {
    fn add(&mut self, name: &'static str, kind: &'static str, content: &[u8]) {
        let content = if kind.starts_with("text/css") { self.with_paths(content) } else { content.to_vec() };
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let hash = hex::encode(&Sha256::digest(&content)[..HASH_BYTES]);
        let file = format!("{stem}.{hash}.{extension}");
        self.paths.insert(name, format!("{}/assets/{file}", super::ROOT));
        self.files.insert(file, (kind, content));
    }

    /// The styles, with the paths of the files that they name.
    fn with_paths(&self, styles: &[u8]) -> Vec<u8> {
        let mut text = String::from_utf8_lossy(styles).into_owned();
        for (name, path) in &self.paths {
            text = text.replace(&format!("url(\"{name}\")"), &format!("url(\"{path}\")"));
        }
        text.into_bytes()
    }
}

/// The path of an asset. A name that does not exist has an empty path; a test finds each of them.
pub(super) fn path(name: &str) -> &'static str {
    ASSETS.paths.get(name).map_or("", String::as_str)
}

/// Sends an asset.
pub(super) async fn show(Path(name): Path<String>) -> Response {
    let Some((kind, content)) = ASSETS.files.get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, content.as_slice()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_styles_name_the_paths_of_the_fonts() {
        let (_, styles) = &ASSETS.files[path("tidegate.css").rsplit('/').next().expect("a name")];
        let styles = String::from_utf8_lossy(styles);
        for font in ["inter.woff2", "mono.woff2"] {
            assert!(styles.contains(&format!("url(\"{}\")", path(font))), "{font}");
        }
        assert!(!styles.contains("url(\"inter"), "no name without its path is left");
    }

    #[test]
    fn every_asset_that_a_template_names_exists() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/dashboard");
        let mut named = 0;
        for entry in std::fs::read_dir(&folder).expect("the templates") {
            let file = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&file).expect("a template");
            for rest in text.split("asset(\"").skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                assert!(!path(name).is_empty(), "{}: there is no asset {name}", file.display());
                named += 1;
            }
        }
        assert!(named > 2, "{named}");
    }
}
