//! Pages: a small writer that escapes everything, and the frame that all our pages share.
//!
//! The pages work without JavaScript, load nothing (the style is inline and allowed by its hash), and follow the reader's
//! choice of light or dark.

use std::fmt::{self, Write};

use axum::http::HeaderValue;
use data_encoding::BASE64;
use ring::digest;

/// The style of all pages.
const STYLE: &str = include_str!("style.css");

/// Text that is safe in HTML, in elements and in quoted attributes.
#[derive(Clone, Copy)]
pub(super) struct Escaped<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper(f), "{}", self.0)
    }
}

struct Escaper<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A whole page. `body` is HTML, `title` is text.
#[must_use]
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title} · Warren</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header><a href=\"/\">Warren</a></header>\n<main>\n{body}</main>\n</body>\n</html>\n",
        title = Escaped(title),
    )
}

/// The policy under which our pages run: their own style, forms that lead back to us, the empty icon, nothing else.
#[must_use]
pub(super) fn policy() -> HeaderValue {
    let hash = BASE64.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()).as_ref());
    let text = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

#[cfg(test)]
mod tests {
    use super::{Escaped, page, policy};

    #[test]
    fn everything_is_escaped() {
        assert_eq!(
            Escaped("<a href=\"x\" b='y'>&</a>").to_string(),
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;&lt;/a&gt;"
        );
        assert!(page("<script>", "").contains("<title>&lt;script&gt; · Warren</title>"));
    }

    #[test]
    fn pages_load_nothing() {
        let page = page("x", "");
        for outside in ["http:", "https:", "<script", "url(", "@import", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(
            policy()
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'; style-src 'sha256-")
        );
    }
}
