//! Which form an answer takes: the part of content negotiation (RFC 9110 §12.5.1) that tells a browser from a program.

use axum::http::{HeaderMap, header};

/// Most members of an `Accept` header that are looked at.
const MAX_MEMBERS: usize = 32;

/// The form of an answer that is not the content itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A page for a browser.
    Html,
    /// An object for a program.
    Json,
    /// A line for a shell: what everybody gets who does not ask for something else.
    Text,
}

/// Chooses the form that the request likes best. A wildcard means [`Form::Text`]: browsers always name `text/html`.
#[must_use]
pub fn form(headers: &HeaderMap) -> Form {
    let members = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .take(MAX_MEMBERS);
    let mut best = (0, Form::Text);
    for member in members {
        let mut parts = member.split(';').map(str::trim);
        let form = match parts.next().map(str::to_ascii_lowercase).as_deref() {
            Some("text/html" | "application/xhtml+xml") => Form::Html,
            Some("application/json" | "application/*") => Form::Json,
            Some("text/plain" | "text/*" | "*/*") => Form::Text,
            _ => continue,
        };
        let quality = parts
            .find_map(|p| p.strip_prefix("q=").or(p.strip_prefix("Q=")))
            .map_or(1000, thousandths);
        if quality > best.0 {
            best = (quality, form);
        }
    }
    best.1
}

/// A quality value (`0` to `1` with at most three decimals) in thousandths; zero when it is not one.
fn thousandths(text: &str) -> u32 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    let decimals = format!("{decimals:0<3}").parse::<u32>().unwrap_or(0);
    match whole {
        "0" => decimals,
        "1" if decimals == 0 => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::{Form, form};

    #[test]
    fn table() {
        let cases = [
            ("", Form::Text),
            ("*/*", Form::Text),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Form::Html,
            ),
            ("application/json", Form::Json),
            ("application/json, */*", Form::Json),
            ("text/plain", Form::Text),
            ("text/html;q=0.1, application/json;q=0.2", Form::Json),
            ("text/html;q=0, */*;q=0.1", Form::Text),
            ("text/html;q=2", Form::Text),
            ("text/html;q=abc, application/json;q=0.001", Form::Json),
            ("image/png", Form::Text),
            ("TEXT/HTML; level=1 ; q=1.000", Form::Html),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(form(&headers), expected, "{accept:?}");
        }
        assert_eq!(form(&HeaderMap::new()), Form::Text);
    }
}
