//! `warren put` and `warren get`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use warren_keys::Uri;

use super::{
    Failure,
    args::{GetArgs, PutArgs},
    outcome::Exit,
    terminal::Terminal,
};
use crate::control::{
    ControlClient,
    api::{FetchDone, FileInfo, InsertDone, InsertRequest, ProgressReport},
    frames::Kind,
};

/// Bytes that one read of the source takes: large enough that system calls do not count.
const READ_LEN: usize = 256 << 10;

/// Inserts a file or standard input; prints the key.
///
/// # Errors
/// [`Failure`] with the code of its cause.
pub(super) async fn put(terminal: Terminal, data_dir: &Path, args: PutArgs) -> Result<(), Failure> {
    let from_stdin = args.source == Path::new("-");
    let name = args
        .source
        .file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .filter(|_| !from_stdin);
    let mime = args.mime.or_else(|| {
        let name = name.as_deref()?;
        mime_guess::from_path(name).first_raw().map(str::to_owned)
    });
    let reader: Pin<Box<dyn AsyncRead + Send>> = if from_stdin {
        Box::pin(tokio::io::stdin())
    } else {
        let open = |error| Failure::io(args.source.display(), &error);
        let file = tokio::fs::File::open(&args.source).await.map_err(open)?;
        if file.metadata().await.map_err(open)?.is_dir() {
            return Err(Failure::usage(format!(
                "{} is a folder; put takes one file, or - for standard input",
                args.source.display()
            )));
        }
        Box::pin(file)
    };
    let key = match &args.key_file {
        Some(path) => Some(first_line(path)?),
        None => args.key,
    };
    let request = InsertRequest {
        key,
        name,
        mime,
        unpredictable: args.unpredictable,
        no_compress: args.no_compress,
    };
    let node = ControlClient::find(data_dir)?;
    let bar = terminal.transfer("inserting");
    let mut answer = node.insert(&request, ReadStream::new(reader)).await?;
    let done: InsertDone = loop {
        match answer.next().await? {
            (Kind::Progress, body) => bar.report(&parse::<ProgressReport>(&body)?),
            (Kind::Done, body) => break parse(&body)?,
            _ => {}
        }
    };
    drop(bar);
    terminal.result(&done, &done.key);
    Ok(())
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::io(path.display(), &error))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Fetches what a key names into a file or standard output.
///
/// # Errors
/// [`Failure`] with the code of its cause. A file that was not complete is removed again; an existing one is replaced only when
/// the new one is whole.
pub(super) async fn get(terminal: Terminal, data_dir: &Path, args: GetArgs) -> Result<(), Failure> {
    let uri = Uri::parse(&args.key).map_err(|error| Failure {
        exit: Exit::BadKey,
        message: format!("not a valid key: {error}"),
    })?;
    let target = Target::choose(args.output, &uri, args.force)?;
    let node = ControlClient::find(data_dir)?;
    let bar = terminal.transfer("fetching");
    let mut answer = node.fetch(&args.key, args.wait).await?;
    let (Kind::Info, info) = answer.next().await? else {
        return Err(Failure::new(
            "the node's answer does not begin with the facts about the file",
        ));
    };
    let info: FileInfo = parse(&info)?;
    let mut output = target.open().await?;
    let mut written = 0_u64;
    let done: FetchDone = loop {
        match answer.next().await? {
            (Kind::Data, bytes) => {
                output.write(&bytes).await?;
                written += bytes.len() as u64;
            }
            (Kind::Progress, body) => bar.report(&parse::<ProgressReport>(&body)?),
            (Kind::Done, body) => break parse(&body)?,
            _ => {}
        }
    };
    if done.size != written || written != info.size {
        return Err(Failure::new(format!("{written} of {} bytes came", info.size)));
    }
    drop(bar);
    if let Some(path) = output.finish().await? {
        let value =
            serde_json::json!({ "file": path.display().to_string(), "size": written, "mime": info.mime });
        terminal.result(&value, &format!("{} ({written} bytes)", path.display()));
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(format!("the node's answer is unreadable: {error}")))
}

/// Where a fetched file goes.
#[derive(PartialEq, Eq, Debug)]
enum Target {
    Stdout,
    File(PathBuf),
}

impl Target {
    fn choose(output: Option<PathBuf>, uri: &Uri, force: bool) -> Result<Self, Failure> {
        let path = match output {
            Some(path) if path == Path::new("-") => return Ok(Self::Stdout),
            Some(path) => path,
            // The name is the publisher's: only its last part counts, and it must be a plain file name.
            None => match uri.path().file_name() {
                Some(name) if !name.is_empty() && Path::new(name).file_name() == Some(name.as_ref()) => {
                    PathBuf::from(name)
                }
                _ => {
                    return Err(Failure::usage(
                        "the key ends in no file name; say where to write with -o FILE",
                    ));
                }
            },
        };
        if path.is_dir() {
            return Err(Failure::usage(format!(
                "{} is a folder; name a file",
                path.display()
            )));
        }
        if path.exists() && !force {
            return Err(Failure::usage(format!(
                "{} exists; --force replaces it",
                path.display()
            )));
        }
        Ok(Self::File(path))
    }

    async fn open(self) -> Result<Output, Failure> {
        Ok(match self {
            Self::Stdout => Output::Stdout(tokio::io::stdout()),
            Self::File(path) => {
                let mut part = path.clone().into_os_string();
                part.push(".part");
                let part = PartFile(PathBuf::from(part));
                let file = tokio::fs::File::create(&part.0)
                    .await
                    .map_err(|error| Failure::io(part.0.display(), &error))?;
                Output::File { file, part, path }
            }
        })
    }
}

/// A file under construction; removed when it goes out of scope under its provisional name.
struct PartFile(PathBuf);

impl Drop for PartFile {
    fn drop(&mut self) {
        // Already renamed when the transfer was whole.
        fs::remove_file(&self.0).ok();
    }
}

enum Output {
    Stdout(tokio::io::Stdout),
    File {
        file: tokio::fs::File,
        part: PartFile,
        path: PathBuf,
    },
}

impl Output {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (writer, name): (&mut (dyn AsyncWrite + Unpin + Send), _) = match self {
            Self::Stdout(stdout) => (stdout, "standard output".into()),
            Self::File { file, part, .. } => (file, part.0.to_string_lossy().into_owned()),
        };
        writer
            .write_all(bytes)
            .await
            .map_err(|error| Failure::io(name, &error))
    }

    /// Makes the output whole; returns the file's name if it is one.
    async fn finish(self) -> Result<Option<PathBuf>, Failure> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout
                    .flush()
                    .await
                    .map_err(|error| Failure::io("standard output", &error))?;
                Ok(None)
            }
            Self::File { mut file, part, path } => {
                let named = |error: io::Error| Failure::io(path.display(), &error);
                file.flush().await.map_err(named)?;
                file.sync_all().await.map_err(named)?;
                fs::rename(&part.0, &path).map_err(named)?;
                Ok(Some(path))
            }
        }
    }
}

/// A reader as a stream of byte pieces.
struct ReadStream {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    buffer: Box<[u8]>,
}

impl ReadStream {
    fn new(reader: Pin<Box<dyn AsyncRead + Send>>) -> Self {
        Self {
            reader,
            buffer: vec![0; READ_LEN].into_boxed_slice(),
        }
    }
}

impl futures_core::Stream for ReadStream {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut buffer = ReadBuf::new(&mut this.buffer);
        this.reader
            .as_mut()
            .poll_read(cx, &mut buffer)
            .map(|read| match read {
                Ok(()) if buffer.filled().is_empty() => None,
                Ok(()) => Some(Ok(Bytes::copy_from_slice(buffer.filled()))),
                Err(error) => Some(Err(error)),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(text).unwrap()
    }

    #[test]
    fn the_name_in_a_key_cannot_leave_the_folder() {
        for hostile in ["KSK@a/..", "KSK@a/%2e%2e", "KSK@a/x%2fy", "KSK@a/"] {
            if let Ok(uri) = Uri::parse(hostile) {
                assert!(Target::choose(None, &uri, false).is_err(), "{hostile}");
            }
        }
        let chosen = Target::choose(None, &uri("KSK@words/deep/name.txt"), false).unwrap();
        assert_eq!(chosen, Target::File("name.txt".into()));
    }

    #[test]
    fn an_existing_file_is_kept_unless_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("there");
        fs::write(&path, "old").unwrap();
        let refused = Target::choose(Some(path.clone()), &uri("KSK@words"), false).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(Target::choose(Some(path), &uri("KSK@words"), true).is_ok());
    }

    #[tokio::test]
    async fn an_unfinished_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut output = Target::File(path.clone()).open().await.unwrap();
        output.write(b"half").await.unwrap();
        drop(output);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut output = Target::File(path.clone()).open().await.unwrap();
        output.write(b"whole").await.unwrap();
        output.finish().await.unwrap();
        assert_eq!(fs::read(path).unwrap(), b"whole");
    }
}
