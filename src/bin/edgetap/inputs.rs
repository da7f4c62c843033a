//! *Input*: an object that a command reads, and how the command line names it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use edgetap::job::ObjectRef;
use edgetap::period::Window;
use edgetap::retry::Backoff;
use edgetap::source::{Opened, S3, SourceError};

use crate::for_aws;
use crate::output::{self, Hinted};
use crate::show::escaped;

/// An input, found but not yet opened.
pub(crate) enum Input {
    File(PathBuf),
    Stdin,
    Object(S3, ObjectRef),
}

impl Input {
    /// Returns the one object with this name: a file, `s3://BUCKET/KEY`, or `-` for stdin.
    pub(crate) async fn named(name: &str) -> anyhow::Result<Self> {
        let is_s3 = in_s3(name)?;
        if name == "-" {
            return Ok(Self::Stdin);
        }
        if let Some((bucket, key)) = is_s3 {
            if key.is_empty() || key.ends_with('/') {
                return Err(many(name, "is a prefix"));
            }
            return Ok(Self::Object(s3().await?, ObjectRef::in_s3(bucket, key)));
        }
        if Path::new(name).is_dir() {
            return Err(many(name, "is a directory"));
        }
        Ok(Self::File(PathBuf::from(name)))
    }

    pub(crate) async fn open(&self) -> Result<Opened, SourceError> {
        match self {
            Self::File(path) => Opened::file(path),
            Self::Stdin => {
                if io::stdin().is_terminal() {
                    output::stderr_line("reading from the terminal: end the input with Ctrl-D");
                }
                Ok(Opened::stdin())
            }
            Self::Object(s3, object) => s3.open(object).await,
        }
    }

    /// Opens the version of the object that is known.
    pub(crate) async fn open_version(&self, known: &ObjectRef) -> Result<Opened, SourceError> {
        match self {
            Self::Object(s3, _) => s3.open(known).await,
            Self::File(_) | Self::Stdin => self.open().await,
        }
    }

    /// Whether it has the same bytes when it is opened again, unlike standard input and other pipes.
    pub(crate) fn can_be_read_again(&self) -> bool {
        match self {
            Self::File(path) => path.metadata().is_ok_and(|file| file.is_file()),
            Self::Stdin => false,
            Self::Object(..) => true,
        }
    }

    /// Whether its name can be written as text.
    pub(crate) fn has_plain_name(&self) -> bool {
        match self {
            Self::File(path) => path.to_str().is_some(),
            Self::Stdin | Self::Object(..) => true,
        }
    }

    /// Whether this file is the input.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        matches!(self, Self::File(_)) && self.identity() == place(path).into_os_string()
    }

    /// Returns a name that no other input has.
    fn identity(&self) -> OsString {
        match self {
            Self::File(path) => place(path).into(),
            Self::Stdin | Self::Object(..) => self.object().to_string().into(),
        }
    }

    pub(crate) fn object(&self) -> ObjectRef {
        match self {
            Self::File(path) => ObjectRef::local(path.to_string_lossy()),
            Self::Stdin => ObjectRef::local("-"),
            Self::Object(_, object) => object.clone(),
        }
    }
}

/// Returns a name of a file that no other file has, whether it exists or not.
pub(crate) fn place(path: &Path) -> PathBuf {
    let name = path.canonicalize().or_else(|_| std::path::absolute(path));
    name.unwrap_or_else(|_| path.to_owned())
}

/// Returns objects as inputs.
pub(crate) async fn of_objects(
    objects: impl Iterator<Item = ObjectRef>,
) -> anyhow::Result<Vec<Input>> {
    let mut client = None;
    let mut inputs = Vec::new();
    for object in objects {
        if object.bucket.is_empty() {
            inputs.push(Input::File(PathBuf::from(object.key)));
            continue; // not in S3
        }
        let s3 = match client.take() {
            Some(s3) => s3,
            None => s3().await?,
        };
        inputs.push(Input::Object(client.insert(s3).clone(), object));
    }
    Ok(inputs)
}

/// The error of a name that stands for many logs where one is expected.
fn many(name: &str, what: &str) -> anyhow::Error {
    let hint = "name one log in it; `edgetap find` looks for a request in all of them".to_owned();
    let message = format!("{name} {what}, not a log");
    Hinted { message, hint }.into()
}

/// For profiles that the SDK cannot use, such as sessions of `aws login`.
const EXPORT: &str = "check the profile with `aws sts get-caller-identity`; if that works, pass its keys on \
                      with `eval \"$(aws configure export-credentials --format env)\"`";

/// Returns what to do about a failure of the AWS SDK to find credentials or a region, by its text.
pub(crate) fn aws_hint(error: &str) -> Option<&'static str> {
    [
        ("SSO token", "run `aws sso login`"),
        ("loading an access token", "run `aws sso login`"),
        ("credentials-login", EXPORT),
        ("initialization error already taken", EXPORT), // the same, at a retry
        (
            "no credentials found",
            "run `aws configure` or `aws sso login`, or set `AWS_PROFILE`",
        ),
        ("region must be set", "set `AWS_REGION`"),
    ]
    .into_iter()
    .find_map(|(words, hint)| error.contains(words).then_some(hint))
}

/// Splits `s3://BUCKET/KEY`. Returns `None` for another name.
pub(crate) fn in_s3(name: &str) -> anyhow::Result<Option<(&str, &str)>> {
    let Some((scheme, location)) = name.split_once(":/") else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case("s3") || Path::new(name).exists() {
        return Ok(None);
    }
    let location = location
        .strip_prefix('/')
        .context("write it as `s3://BUCKET/PREFIX`")?;
    let (bucket, key) = location.split_once('/').unwrap_or((location, ""));
    anyhow::ensure!(!bucket.is_empty(), "the bucket is missing");
    // Also the ARN of an access point.
    let is_of_bucket = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    anyhow::ensure!(
        bucket.bytes().all(is_of_bucket),
        "a bucket has letters, digits, `-` and `.` in its name"
    );
    Ok(Some((bucket, key)))
}

async fn s3() -> anyhow::Result<S3> {
    Ok(S3::new(&for_aws().await?, Backoff::default()))
}

/// Which logs are wanted, by their keys.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) window: Window,
    pub(crate) distribution: Option<String>,
}

impl Wanted {
    /// Whether a log may be wanted, by its key or its path in a named directory. One that does not
    /// tell may be.
    fn has(&self, key: &str) -> bool {
        let object = ObjectRef::local(key);
        let is_other = |id| object.distribution().is_some_and(|of_key| of_key != id);
        self.window.excluding(key).is_none() && !self.distribution.as_deref().is_some_and(is_other)
    }
}

#[derive(Default)]
pub(crate) struct Found {
    pub(crate) inputs: Vec<Input>,
    /// Total size of the inputs, if every size is known.
    pub(crate) bytes: Option<u64>,
    /// Number of names that cannot be read, each of which was reported.
    pub(crate) unreadable: usize,
    /// Whether there are inputs that are not wanted.
    pub(crate) has_unwanted: bool,
    /// What the inputs are, so that each is read once.
    names: HashSet<OsString>,
}

/// Finds every wanted object that the names stand for, in directories and below S3 prefixes too.
/// Reports what cannot be read and goes on.
pub(crate) async fn find(names: &[String], wanted: &Wanted) -> Found {
    let mut found = Found {
        bytes: Some(0),
        ..Found::default()
    };
    for name in names {
        if let Err(error) = found.add(name, wanted).await {
            found.report(name, &error);
        }
    }
    found
}

impl Found {
    fn report(&mut self, name: impl Display, error: &anyhow::Error) {
        match error.downcast_ref::<SourceError>() {
            Some(error) => {
                output::error(error); // names the object
                aws_hint(&error.to_string()).iter().for_each(output::hint);
            }
            None => output::error(format_args!("cannot read {name}: {error:#}")),
        }
        self.unreadable += 1;
    }

    async fn add(&mut self, name: &str, wanted: &Wanted) -> anyhow::Result<()> {
        anyhow::ensure!(!name.is_empty(), "the name is empty");
        if name == "-" {
            self.push(Input::Stdin, "", None, wanted);
        } else if let Some((bucket, prefix)) = in_s3(name)? {
            let s3 = s3().await?;
            let objects = s3.list(bucket, prefix, &wanted.window).await?;
            anyhow::ensure!(!objects.is_empty(), "no objects under this prefix");
            for (object, size) in objects {
                let key = object.key.clone();
                self.push(Input::Object(s3.clone(), object), &key, Some(size), wanted);
            }
        } else {
            let path = Path::new(name);
            let above = if path.is_dir() {
                Some(path)
            } else {
                path.parent()
            };
            anyhow::ensure!(
                self.add_path(path, above, wanted)?,
                "no files in this directory"
            );
        }
        Ok(())
    }

    /// Adds an input that is wanted by its key and was not added before.
    fn push(&mut self, input: Input, key: &str, size: Option<u64>, wanted: &Wanted) {
        if !wanted.has(key) {
            self.has_unwanted = true;
            return;
        }
        if !self.names.insert(input.identity()) {
            return;
        }
        self.bytes = self.bytes.zip(size).map(|(bytes, size)| bytes + size);
        self.inputs.push(input);
    }

    /// Adds a file, or every file below a directory that can be read. Returns whether there is any.
    /// Folders up to `above` do not tell what is wanted.
    fn add_path(
        &mut self,
        path: &Path,
        above: Option<&Path>,
        wanted: &Wanted,
    ) -> anyhow::Result<bool> {
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                anyhow::bail!("the target of this symbolic link does not exist")
            }
            metadata => metadata?,
        };
        if !metadata.is_dir() {
            let size = metadata.is_file().then_some(metadata.len());
            let below = above.and_then(|above| path.strip_prefix(above).ok());
            let key = below.unwrap_or(path).to_string_lossy();
            self.push(Input::File(path.to_owned()), &key, size, wanted);
            return Ok(true);
        }
        let mut inside = std::fs::read_dir(path)?
            .map(|child| child.map(|child| child.path()))
            .collect::<Result<Vec<_>, _>>()?;
        inside.sort();
        inside.retain(|child| is_read(child));
        let mut has_any = false;
        for child in inside {
            match self.add_path(&child, above, wanted) {
                Ok(is_any) => has_any |= is_any,
                Err(error) => {
                    self.report(child.display(), &error);
                    has_any = true;
                }
            }
        }
        Ok(has_any)
    }
}

/// Whether what is in a directory is read. Says what is not.
fn is_read(path: &Path) -> bool {
    let file = escaped(&path.to_string_lossy());
    let Ok(metadata) = path.metadata() else {
        return true; // reading it tells why not
    };
    if metadata.is_dir() && path.is_symlink() {
        tracing::warn!(%file, "skipped a linked directory: name it to read it"); // may form a loop
        return false;
    }
    if !metadata.is_dir() && !metadata.is_file() {
        tracing::warn!(%file,
            "skipped what is not a regular file: name it to read it"
        );
        return false;
    }
    true
}
