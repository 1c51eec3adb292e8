//! A few HTTP requests to a node's own interfaces, over plain sockets. Files travel by `curl` instead, as a user's would.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(60);

/// Where a server is: an address, and the network namespace in which it is that server's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reach {
    /// The address.
    pub address: SocketAddr,
    /// The namespace's file, if it is another than this process's.
    pub namespace: Option<PathBuf>,
}

impl From<SocketAddr> for Reach {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            namespace: None,
        }
    }
}

impl Reach {
    /// Connects.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let Some(namespace) = &self.namespace else {
            return TcpStream::connect(self.address);
        };
        // A thread is in one namespace; a socket stays in that in which it was made.
        let connect = || {
            let file = fs::File::open(namespace)?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpStream::connect(self.address)
        };
        thread::scope(|scope| scope.spawn(connect).join())
            .unwrap_or_else(|_| Err(io::Error::other("the connecting thread panicked")))
    }
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends a request with `Connection: close` and reads the answer to its end.
///
/// # Errors
/// When the connection fails, or what comes is no answer.
pub fn request(
    server: impl Into<Reach>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    exchange(server.into().connect()?, method, path, headers, body)
}

/// The same over a connection that the caller can cut.
///
/// # Errors
/// As [`request`].
pub fn exchange(
    mut stream: TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let address = stream.peer_addr()?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a whole HTTP answer"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let field = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    let mut rest = &answer[end + 4..];
    if field("transfer-encoding").is_none() {
        let whole = field("content-length").is_none_or(|len| len.parse() == Ok(rest.len()));
        return whole.then(|| Answer {
            status,
            body: rest.to_vec(),
        });
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        rest = rest.get(line + 2..)?;
        if len == 0 {
            return Some(Answer { status, body });
        }
        body.extend_from_slice(rest.get(..len)?);
        rest = rest.get(len + 2..)?;
    }
}

/// A node's control interface, as its `control.json` describes it.
#[derive(Clone, Debug)]
pub struct Control {
    /// Where it listens.
    pub address: SocketAddr,
    /// The network namespace in which it does, if it is another than this process's.
    pub namespace: Option<PathBuf>,
    /// Value of the header that opens it.
    pub authorization: String,
}

impl Control {
    /// Reads the control file of a running node.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(data_dir: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(data_dir.join("control.json"))?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let field = |name: &str| value[name].as_str().unwrap_or_default();
        Ok(Self {
            address: field("address").parse().map_err(io::Error::other)?,
            namespace: None,
            authorization: format!("Bearer {}", field("token")),
        })
    }

    /// Fetches a JSON document.
    ///
    /// # Errors
    /// When the node does not answer with one.
    pub fn get(&self, path: &str) -> io::Result<serde_json::Value> {
        let headers = [("Authorization", self.authorization.as_str())];
        let server = Reach {
            address: self.address,
            namespace: self.namespace.clone(),
        };
        let answer = request(server, "GET", path, &headers, b"")?;
        Ok(serde_json::from_slice(&answer.body)?)
    }
}
