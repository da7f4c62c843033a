//! *Input*: an object that a command reads, and how the command line names it.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use edgetap::aws;
use edgetap::config::{Problems, https_proxy};
use edgetap::job::ObjectRef;
use edgetap::period::Window;
use edgetap::retry::Backoff;
use edgetap::source::{Opened, S3, SourceError};

use crate::output;

/// An input, found but not yet opened.
pub(crate) enum Input {
    File(PathBuf),
    Stdin,
    Object(S3, ObjectRef),
}

impl Input {
    /// Returns the one object with this name: a file, `s3://BUCKET/KEY`, or `-` for stdin.
    pub(crate) async fn named(name: &str) -> anyhow::Result<Self> {
        Ok(match in_s3(name)? {
            _ if name == "-" => Self::Stdin,
            Some((bucket, key)) => Self::Object(s3().await?, ObjectRef::in_s3(bucket, key)),
            None => Self::File(PathBuf::from(name)),
        })
    }

    pub(crate) async fn open(&self) -> Result<Opened, SourceError> {
        match self {
            Self::File(path) => Opened::file(path),
            Self::Stdin => Ok(Opened::stdin()),
            Self::Object(s3, object) => s3.open(object).await,
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

/// Splits `s3://BUCKET/KEY`. Returns `None` for another name.
fn in_s3(name: &str) -> anyhow::Result<Option<(&str, &str)>> {
    let Some(location) = name.strip_prefix("s3://") else {
        return Ok(None);
    };
    let (bucket, key) = location.split_once('/').unwrap_or((location, ""));
    anyhow::ensure!(!bucket.is_empty(), "the bucket is missing");
    Ok(Some((bucket, key)))
}

async fn s3() -> Result<S3, Problems> {
    let config = aws::sdk_config(https_proxy()?).await;
    Ok(S3::new(&config, Backoff::default()))
}

/// Which logs are wanted, by their keys.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) window: Window,
    pub(crate) distribution: Option<String>,
}

impl Wanted {
    /// Whether a log may be wanted. A key that does not tell is that of one.
    fn has(&self, object: &ObjectRef) -> bool {
        let is_other = |id| object.distribution().is_some_and(|of_key| of_key != id);
        self.window.excluding(&object.key).is_none()
            && !self.distribution.as_deref().is_some_and(is_other)
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
        output::error(format_args!("cannot read {name}: {error:#}"));
        self.unreadable += 1;
    }

    async fn add(&mut self, name: &str, wanted: &Wanted) -> anyhow::Result<()> {
        if name == "-" {
            self.push(Input::Stdin, None, wanted);
        } else if let Some((bucket, prefix)) = in_s3(name)? {
            let s3 = s3().await?;
            let objects = s3.list(bucket, prefix, &wanted.window).await?;
            anyhow::ensure!(!objects.is_empty(), "no objects under this prefix");
            for (object, size) in objects {
                self.push(Input::Object(s3.clone(), object), Some(size), wanted);
            }
        } else {
            anyhow::ensure!(
                self.add_path(Path::new(name), wanted)?,
                "no files in this directory"
            );
        }
        Ok(())
    }

    fn push(&mut self, input: Input, size: Option<u64>, wanted: &Wanted) {
        if !wanted.has(&input.object()) {
            self.has_unwanted = true;
            return;
        }
        self.bytes = self.bytes.zip(size).map(|(bytes, size)| bytes + size);
        self.inputs.push(input);
    }

    /// Adds a file, or every file below a directory that can be read. Returns whether there is any.
    fn add_path(&mut self, path: &Path, wanted: &Wanted) -> anyhow::Result<bool> {
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                anyhow::bail!("the target of this symbolic link does not exist")
            }
            metadata => metadata?,
        };
        if !metadata.is_dir() {
            let size = metadata.is_file().then_some(metadata.len());
            self.push(Input::File(path.to_owned()), size, wanted);
            return Ok(true);
        }
        let mut inside = std::fs::read_dir(path)?
            .map(|child| child.map(|child| child.path()))
            .collect::<Result<Vec<_>, _>>()?;
        // A link to a directory may form a loop.
        inside.retain(|child| !(child.is_symlink() && child.is_dir()));
        inside.sort();
        let mut has_any = false;
        for child in inside {
            match self.add_path(&child, wanted) {
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
