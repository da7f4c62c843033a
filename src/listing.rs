//! *Listing*: the objects below a prefix, page by page, so that memory does not grow with their
//! number.

use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2Error, ListObjectsV2Output};
use aws_sdk_s3::types::{EncodingType, Object};
use jiff::Timestamp;

use crate::aws::advice;
use crate::event::decode_form_key;
use crate::job::ObjectRef;
use crate::period::Window;
use crate::retry::causes;
use crate::source::{S3, SourceError};

/// What to do about most errors.
const CHECK: &str = "Check the bucket, the region and the S3 endpoint";

/// What a listing says of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The key, decoded.
    pub key: String,
    /// The size in bytes. `None` does not mean empty.
    pub size: Option<u64>,
    /// The `ETag` without quotes.
    pub etag: Option<String>,
    pub last_modified: Option<Timestamp>,
    /// S3's name of the storage class; `None` for `STANDARD` in some implementations.
    pub storage_class: Option<String>,
}

/// A listing in progress, in the order of keys (of their UTF-8 bytes).
pub struct Listing {
    bucket: String,
    prefix: String,
    window: Window,
    /// The request of the first page.
    first: ListObjectsV2FluentBuilder,
    /// The request of the next page; `None` at the end.
    next: Option<ListObjectsV2FluentBuilder>,
}

impl S3 {
    /// Begins to list the objects below a prefix whose keys follow `after`, an empty text for all.
    ///
    /// `window` passes over keys that are not wanted: if it excludes the name of a page's last key, the
    /// next page begins behind all names with that beginning. Other keys outside of it are listed.
    pub fn listing(&self, bucket: &str, prefix: &str, after: &str, window: &Window) -> Listing {
        let first = self
            .client()
            .list_objects_v2()
            .bucket(bucket)
            .prefix(prefix)
            .encoding_type(EncodingType::Url); // XML cannot have every character of a key
        let start = Some(after).filter(|after| !after.is_empty());
        Listing {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            window: *window,
            next: Some(first.clone().set_start_after(start.map(str::to_owned))),
            first,
        }
    }

    /// Lists the objects below a prefix with their sizes (0 if S3 does not tell one). Directory
    /// placeholders and empty objects are left out. `window` is that of [`Self::listing`].
    ///
    /// # Errors
    /// [`SourceError::Unlisted`], which names the prefix.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        window: &Window,
    ) -> Result<Vec<(ObjectRef, u64)>, SourceError> {
        let mut listing = self.listing(bucket, prefix, "", window);
        let mut found = Vec::new();
        while let Some(page) = listing.page().await? {
            let wanted = page
                .into_iter()
                .filter(|listed| listed.size != Some(0) && !listed.key.ends_with('/'));
            found.extend(wanted.map(|Listed { key, size, .. }| {
                (ObjectRef::in_s3(bucket, key), size.unwrap_or_default())
            }));
        }
        Ok(found)
    }
}

impl Listing {
    /// Returns the next page, which may be empty. `None` follows the last one.
    ///
    /// # Errors
    /// [`SourceError::Unlisted`], which names the prefix. The same page can then be asked for once
    /// more.
    pub async fn page(&mut self) -> Result<Option<Vec<Listed>>, SourceError> {
        let Some(request) = self.next.clone() else {
            return Ok(None);
        };
        let sent = request.send().await;
        let page = sent.map_err(|error| {
            let (reason, advice) = reason_of(&error);
            self.unlisted(reason, advice)
        })?;
        let objects = objects(&page).map_err(|reason| self.unlisted(reason.to_owned(), CHECK))?;
        if page.is_truncated() == Some(true) && page.next_continuation_token().is_none() {
            let reason = "S3 lists only a part of the objects, and not where the rest begins";
            return Err(self.unlisted(reason.to_owned(), CHECK));
        }
        self.next = page.next_continuation_token().map(|token| {
            let last = objects.last();
            match last.and_then(|last| behind(&last.key, &self.window)) {
                Some(start) => self.first.clone().start_after(start),
                None => self.first.clone().continuation_token(token),
            }
        });
        Ok(Some(objects))
    }

    fn unlisted(&self, reason: String, advice: &'static str) -> SourceError {
        SourceError::Unlisted {
            place: ObjectRef::in_s3(&self.bucket, &self.prefix).to_string(),
            reason,
            advice,
        }
    }
}

/// Returns the objects of a page, with decoded keys.
fn objects(page: &ListObjectsV2Output) -> Result<Vec<Listed>, &'static str> {
    let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
    let objects = page.contents().iter();
    objects.map(|object| listed(object, is_encoded)).collect()
}

fn listed(object: &Object, is_encoded: bool) -> Result<Listed, &'static str> {
    let key = object.key().ok_or("S3 returned an object without a key")?;
    let key = if is_encoded {
        decode_form_key(key).map_err(|_| "S3 returned a key that is not UTF-8")?
    } else {
        key.to_owned()
    };
    let modified = object.last_modified();
    Ok(Listed {
        key,
        size: object.size().and_then(|size| u64::try_from(size).ok()),
        etag: object.e_tag().map(|etag| etag.trim_matches('"').to_owned()),
        last_modified: modified.and_then(|time| {
            let nanoseconds = i32::try_from(time.subsec_nanos()).ok()?;
            Timestamp::new(time.secs(), nanoseconds).ok()
        }),
        storage_class: object
            .storage_class()
            .map(|class| class.as_str().to_owned()),
    })
}

/// Returns where to go on listing behind a key that is outside of the window: `~` follows every
/// character in the names of logs. `None` if that would lead back.
fn behind(key: &str, window: &Window) -> Option<String> {
    let start = format!("{}~", window.excluding_names(key)?);
    (start.as_str() > key).then_some(start)
}

/// Returns why a listing failed, and what to do.
fn reason_of(error: &SdkError<ListObjectsV2Error>) -> (String, &'static str) {
    let response = error.raw_response();
    let code = response.map(|_| error.code().unwrap_or("no code"));
    let told = causes(error).trim_end_matches('.').to_owned();
    let known = advice(code, &told);
    let (Some(response), Some(code)) = (response, code) else {
        return (told, known.unwrap_or(CHECK));
    };
    let status = response.status().as_u16();
    let region = response.headers().get("x-amz-bucket-region");
    let (reason, advice) = match (status, code) {
        (301 | 307, _)
        | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            let region = region.map_or("another", |region| region);
            let reason = format!("the region of the bucket is {region}");
            return (reason, "Set `AWS_REGION` to the bucket's region");
        }
        (_, "NoSuchBucket") => ("the bucket does not exist", CHECK),
        (_, "AccessDenied" | "AllAccessDisabled") => (
            "access denied",
            "Your identity needs s3:ListBucket on the bucket",
        ),
        _ => ("S3 refuses to", known.unwrap_or(CHECK)),
    };
    (format!("{reason} (S3 returned {status}, {code})"), advice)
}
