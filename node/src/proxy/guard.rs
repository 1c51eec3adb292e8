//! Who may ask: the checks that keep foreign web pages away from the node.
//!
//! The proxy has no password, so every page that the user's browser shows could try to use it. Three doors are shut:
//!
//! - *DNS rebinding*: the request must name one of our own hosts ([`Hosts`]), which a rebound name is not.
//! - *Forged requests*: an insert must come from our own page (`Origin`, `Sec-Fetch-Site`), and the form carries a
//!   [`Token`] that only our page can show.
//! - *Probing*: a request that another site caused is never answered from the network, not even a GET. Otherwise a page
//!   could make the node fetch a key that its author watches for, or learn by timing what the user reads. A link from
//!   elsewhere leads to a page that asks the user first.
//!
//! Programs send neither `Origin` nor `Sec-Fetch-Site` nor `Referer` and pass: what runs on this machine could read the
//! node's files as well.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, Uri, header};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names under which this proxy may be addressed, as they stand in a `Host` header, in lower case.
#[derive(Clone, Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// The loopback names with the listener's port, and the names of the configuration: `name:port` as it stands, `name`
    /// with the listener's port.
    #[must_use]
    pub fn new(listener: SocketAddr, configured: &[String]) -> Self {
        let port = listener.port();
        let ip = listener.ip();
        let own = if ip.is_ipv6() {
            format!("[{ip}]")
        } else {
            ip.to_string()
        };
        let loopback = ["localhost", "127.0.0.1", "[::1]"].into_iter();
        let mut names = Vec::new();
        for name in loopback
            .chain((!ip.is_unspecified()).then_some(own.as_str()))
            .chain(configured.iter().map(String::as_str))
        {
            let name = name.to_ascii_lowercase();
            let last = name.rsplit_once(':');
            if !name.ends_with(']') && last.is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                names.push(name);
                continue;
            }
            names.push(format!("{name}:{port}"));
            if port == 80 {
                names.push(name);
            }
        }
        Self(names)
    }

    fn contains(&self, authority: &str) -> bool {
        self.0.iter().any(|name| name.eq_ignore_ascii_case(authority))
    }

    /// Whether a URL (an `Origin` or a `Referer`) is one of ours.
    fn own_url(&self, url: &str) -> bool {
        let rest = url.strip_prefix("http://").unwrap_or("");
        self.contains(rest.split('/').next().unwrap_or(""))
    }
}

/// Why a request is refused before anything is done for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No `Host`, several, or an unreadable one: status 400.
    NoHost,
    /// Not addressed to this proxy: status 421.
    WrongHost,
    /// Caused by another site: status 403.
    Foreign,
}

/// Checks `Host`, and the target's own authority when it has one.
///
/// # Errors
/// [`Refusal::NoHost`], [`Refusal::WrongHost`].
pub fn check_host(headers: &HeaderMap, target: &Uri, hosts: &Hosts) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else {
        return Err(Refusal::NoHost);
    };
    let host = host.to_str().map_err(|_| Refusal::NoHost)?;
    let target_is_ours = target
        .authority()
        .is_none_or(|authority| hosts.contains(authority.as_str()));
    if hosts.contains(host) && target_is_ours {
        Ok(())
    } else {
        Err(Refusal::WrongHost)
    }
}

/// Checks that no other site caused the request.
///
/// # Errors
/// [`Refusal::Foreign`].
pub fn check_provenance(headers: &HeaderMap, hosts: &Hosts) -> Result<(), Refusal> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or("unreadable"))
    };
    // `same-site` is foreign: another port of localhost is another program's page.
    let site_is_ours = text(SEC_FETCH_SITE).map(|site| matches!(site, "same-origin" | "none"));
    let origin_is_ours = text(header::ORIGIN).map(|origin| hosts.own_url(origin));
    let own = match (site_is_ours, origin_is_ours) {
        (Some(false), _) | (_, Some(false)) => false,
        (Some(true), _) | (_, Some(true)) => true,
        // A browser too old for Sec-Fetch-Site, or a program.
        (None, None) => text(header::REFERER).is_none_or(|referer| hosts.own_url(referer)),
    };
    if own { Ok(()) } else { Err(Refusal::Foreign) }
}

/// The secret that our upload form carries, new at each start.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

/// Length of the token's text.
pub const TOKEN_LEN: usize = 43;

impl Token {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(random: &[u8; 32]) -> Self {
        Self(Zeroizing::new(data_encoding::BASE64URL_NOPAD.encode(random)))
    }

    /// As the form's hidden field.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

    use super::{Hosts, Refusal, TOKEN_LEN, Token, check_host, check_provenance};

    fn hosts() -> Hosts {
        Hosts::new(
            "127.0.0.1:8888".parse().unwrap(),
            &["warren.lan".into(), "Box:9999".into()],
        )
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn only_own_hosts() {
        let target = Uri::from_static("/");
        for host in [
            "localhost:8888",
            "LocalHost:8888",
            "127.0.0.1:8888",
            "[::1]:8888",
            "warren.lan:8888",
            "box:9999",
        ] {
            assert_eq!(
                check_host(&headers(&[("host", host)]), &target, &hosts()),
                Ok(()),
                "{host}"
            );
        }
        for host in [
            "localhost",
            "127.0.0.1",
            "localhost:80",
            "localhost.:8888",
            "127.0.0.1:8889",
            "evil.example",
            "evil.example:8888",
            "localhost:8888.evil.example",
            "box:8888",
            "127.0.0.1:8888@evil.example",
            "",
        ] {
            let refused = check_host(&headers(&[("host", host)]), &target, &hosts());
            assert_eq!(refused, Err(Refusal::WrongHost), "{host}");
        }
        assert_eq!(
            check_host(&HeaderMap::new(), &target, &hosts()),
            Err(Refusal::NoHost)
        );
        let mut two = headers(&[("host", "localhost:8888")]);
        two.append(header::HOST, HeaderValue::from_static("localhost:8888"));
        assert_eq!(check_host(&two, &target, &hosts()), Err(Refusal::NoHost));
        let absolute = Uri::from_static("http://evil.example/KSK@a");
        let own = headers(&[("host", "localhost:8888")]);
        assert_eq!(check_host(&own, &absolute, &hosts()), Err(Refusal::WrongHost));
        assert_eq!(
            check_host(&own, &Uri::from_static("http://localhost:8888/"), &hosts()),
            Ok(())
        );
    }

    #[test]
    fn port_80_may_be_left_out() {
        let hosts = Hosts::new("127.0.0.1:80".parse().unwrap(), &[]);
        let target = Uri::from_static("/");
        assert_eq!(
            check_host(&headers(&[("host", "localhost")]), &target, &hosts),
            Ok(())
        );
        assert_eq!(
            check_host(&headers(&[("host", "localhost:80")]), &target, &hosts),
            Ok(())
        );
    }

    #[test]
    fn who_caused_it() {
        let ok: &[&[(&str, &str)]] = &[
            &[],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", "http://localhost:8888")],
            &[
                ("origin", "http://127.0.0.1:8888"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("referer", "http://localhost:8888/x")],
            &[("referer", "http://evil.example/"), ("sec-fetch-site", "none")],
        ];
        let foreign: &[&[(&str, &str)]] = &[
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "")],
            &[("origin", "null")],
            &[("origin", "https://localhost:8888")],
            &[("origin", "http://localhost:3000")],
            &[("origin", "http://localhost:8888.evil.example")],
            &[
                ("origin", "http://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[
                ("origin", "http://localhost:8888"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("referer", "http://evil.example/")],
            &[("referer", "http://evil.example/http://localhost:8888/")],
        ];
        let as_map = |pairs: &[(&str, &str)]| -> HeaderMap {
            let one = |(n, v): &(&str, &str)| {
                (
                    n.parse::<HeaderName>().unwrap(),
                    v.parse::<HeaderValue>().unwrap(),
                )
            };
            pairs.iter().map(one).collect()
        };
        for case in ok {
            assert_eq!(check_provenance(&as_map(case), &hosts()), Ok(()), "{case:?}");
        }
        for case in foreign {
            assert_eq!(
                check_provenance(&as_map(case), &hosts()),
                Err(Refusal::Foreign),
                "{case:?}"
            );
        }
    }

    #[test]
    fn tokens() {
        let token = Token::new(&[9; 32]);
        assert_eq!(token.reveal().len(), TOKEN_LEN);
        assert!(token.matches(token.reveal().as_bytes()));
        assert!(!token.matches(b""));
        assert!(!token.matches(Token::new(&[8; 32]).reveal().as_bytes()));
    }
}
