//! *Mask*: replaces the credentials of a URL, or of a part of one.
//!
//! Whoever sends a request writes most of its URL, and must not be able to hide in it what an
//! analysis looks for. So a value is masked only if it has the form of its credential, and a mask
//! never covers a delimiter of the URL or the name of a parameter.

use std::ops::Range;

use wide::i8x32;

use super::finder::{BEARER, Finder};
use super::names::{AMZ, MAX_NAME, Names, is_name_byte};
use super::web_token::WEB_TOKEN;
use crate::simd::{Positions, equal};

/// Replaces a credential.
const MASK: &[u8] = b"REDACTED";

/// The part of a URL that a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `/` and `?` end the value of a parameter (`;name=value`).
    Path,
    Query,
    /// A path, also behind a scheme and a host; a query after the first `?` or `#`.
    Url,
}

/// Appends the text with its credentials masked. Returns `None`, and appends nothing, if it has
/// none.
pub(super) fn mask(
    text: &[u8],
    part: Part,
    names: &Names,
    out: &mut Vec<u8>,
) -> Option<Range<usize>> {
    if is_plain(text, names) {
        return None;
    }
    let start = out.len();
    let mut copied = 0;
    for credential in Finder::new(text, part, names) {
        out.extend_from_slice(&text[copied..credential.range.start]);
        out.extend_from_slice(MASK);
        credential.marks.push(out);
        copied = credential.range.end;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&text[copied..]);
    Some(start..out.len())
}

/// Fast path: whether `text` certainly has no credential. It contains nothing that can encode or
/// quote, neither `@` nor `]`, not the start of a token, and no `=` follows the name of a
/// credential. Most logged values are plain.
pub(super) fn is_plain(text: &[u8], names: &Names) -> bool {
    // All bytes below `,` but `&`.
    let is_low = |bytes: i8x32| bytes.simd_lt(b','.cast_signed()) & !equal(bytes, b'&');
    let is_suspect = |bytes| {
        is_low(bytes)
            | equal(bytes, b'@')
            | equal(bytes, b']')
            | equal(bytes, b'=')
            | equal(bytes, WEB_TOKEN[2])
            | equal(bytes | i8x32::splat(0x20), b'z')
    };
    !Positions::new(text, is_suspect).any(|at| match text[at] {
        b'=' => is_assignment(text, at, names),
        b'+' => text[..at]
            .last_chunk()
            .is_some_and(|word: &[u8; BEARER.len()]| word.eq_ignore_ascii_case(BEARER)),
        byte if byte == WEB_TOKEN[2] => text[..=at].ends_with(WEB_TOKEN),
        b'z' | b'Z' => is_amz(text, at),
        b'!' | b'#' | b'$' | b'(' | b')' | b'*' => false,
        _ => true,
    })
}

/// Whether the `z` at this position is the one of `X-Amz-`.
fn is_amz(text: &[u8], at: usize) -> bool {
    let before = AMZ.len() - 2;
    text[at.saturating_sub(before)..]
        .first_chunk()
        .is_some_and(|name: &[u8; AMZ.len()]| name.eq_ignore_ascii_case(AMZ))
}

/// Whether the `=` at this position may follow the name of a credential.
fn is_assignment(text: &[u8], at: usize, names: &Names) -> bool {
    let (before, last) = match text[..at] {
        [.., before, last] => (before, last),
        [last] => (0, last),
        [] => return false,
    };
    if !names.may_end_in(before, last) {
        return last == b'+'; // a space
    }
    let longest = &text[at.saturating_sub(MAX_NAME + 1)..at];
    let start = longest.iter().rposition(|byte| !is_name_byte(*byte));
    let name = &longest[start.map_or(0, |before| before + 1)..];
    names.rule(name).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::cursor::Cursor;
    use super::*;
    use proptest::prelude::*;

    fn masked_by(text: &str, part: Part, names: &Names) -> String {
        let mut out = Vec::new();
        let Some(range) = mask(text.as_bytes(), part, names, &mut out) else {
            assert!(out.is_empty());
            return text.to_owned();
        };
        String::from_utf8(out[range].to_vec()).unwrap()
    }

    fn masked(text: &str, part: Part) -> String {
        masked_by(text, part, &Names::default())
    }

    /// An expectation of `""` is the text itself.
    fn check(part: Part, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let expected = if expected.is_empty() { text } else { expected };
            assert_eq!(masked(text, part), **expected, "{text}");
        }
    }

    // proves: I33
    #[test]
    fn password_is_masked_wherever_a_name_precedes_it() {
        check(
            Part::Query,
            &[
                ("password=x&a=1", "password=REDACTED&a=1"),
                ("a=1&PassWord=x", "a=1&PassWord=REDACTED"),
                (
                    "%70assword=x&%2570wd%253dx",
                    "%70assword=REDACTED&%2570wd%253dREDACTED",
                ),
                (
                    "user[password]=x&user%5Bpwd%5D=y",
                    "user[password]=REDACTED&user%5Bpwd%5D=REDACTED",
                ),
                (
                    "password[]=x&password[0]=y&password%5Ba%5D%5B1%5D=z",
                    "password[]=REDACTED&password[0]=REDACTED&password%5Ba%5D%5B1%5D=REDACTED",
                ),
                (
                    "user.password=x&user:password=y&user%3Apwd=z",
                    "user.password=REDACTED&user:password=REDACTED&user%3Apwd=REDACTED",
                ),
                (
                    "j_password=x&newPassword=y&passphrase=z",
                    "j_password=REDACTED&newPassword=REDACTED&passphrase=REDACTED",
                ),
                ("password%20=x&pwd+=y", "password%20=REDACTED&pwd+=REDACTED"),
                ("a=password=x", "a=password=REDACTED"),
                ("x=1|password=y", "x=1|password=REDACTED"),
                ("password=a/b?c%26d,e", "password=REDACTED"),
                (
                    "password=&pwd&password[&password[0=1&passwords=1&mypassword=2&password2=3",
                    "",
                ),
                ("[[[[password[[[[=x", ""),
                (
                    "next=https%3A%2F%2Fh%2F%3Fpwd%3Dsecret%26a%3Db&z=1",
                    "next=https%3A%2F%2Fh%2F%3Fpwd%3DREDACTED%26a%3Db&z=1",
                ),
                (
                    "next=%252F%253Fpwd%253Dsecret%2526a&z=1",
                    "next=%252F%253Fpwd%253DREDACTED%2526a&z=1",
                ),
                (
                    "n=%2525253Fpwd%2525253Da%25252526b%26c",
                    "n=%2525253Fpwd%2525253DREDACTED%25252526b%26c",
                ),
                ("100%&%zz=%", ""),
                ("=&=x&+=x&]=", ""),
                ("", ""),
            ],
        );
    }

    // proves: I80
    #[test]
    fn masked_password_tells_what_it_held() {
        check(
            Part::Query,
            &[
                ("pwd='+OR+1=1--", "pwd=REDACTED(quote,space)"),
                ("pwd=a%20b&x=%20", "pwd=REDACTED(space)&x=%20"),
                ("pwd=%3Cscript%3E", "pwd=REDACTED(bracket)"),
                ("pwd=a%3Bls&n=1", "pwd=REDACTED(semicolon)&n=1"),
                ("pwd=a%00%0d%0a", "pwd=REDACTED(control)"),
                (
                    "pwd=%2527%2520%253C%253B%250a",
                    "pwd=REDACTED(quote,space,bracket,semicolon,control)",
                ),
                ("pwd=a%2Bb", "pwd=REDACTED"),
                ("pwd=a!$*-b", "pwd=REDACTED"),
            ],
        );
        check(
            Part::Path,
            &[
                ("/a;pwd=a+b", "/a;pwd=REDACTED"),
                ("/a;pwd=(a)", "/a;pwd=REDACTED(bracket)"),
            ],
        );
    }

    // proves: I81
    #[test]
    fn delimiters_end_a_password() {
        check(
            Part::Query,
            &[
                ("pwd=x;id=1'+UNION", "pwd=REDACTED;id=1'+UNION"),
                ("pwd=x|id=1", "pwd=REDACTED|id=1"),
                ("pwd=x#id=1", "pwd=REDACTED#id=1"),
                ("pwd%3Dx=1", "pwd%3DREDACTED=1"),
                ("a=%3Fpwd%3Dx%3Bb=1", "a=%3Fpwd%3DREDACTED%3Bb=1"),
                (
                    "a=1&+password=a+b&c=?%20pwd=a%20b;%20pwd=a%20b&%20+pwd=a+b",
                    "a=1&+password=REDACTED(space)&c=?%20pwd=REDACTED(space);%20pwd=REDACTED(space)&%20+pwd=REDACTED(space)",
                ),
                ("+pwd=a+b", "+pwd=REDACTED(space)"),
                // In a text, the next word is not part of it.
                (
                    "id=1+AND+pwd=x+UNION+SELECT",
                    "id=1+AND+pwd=REDACTED+UNION+SELECT",
                ),
                (
                    "id=1%20AND%20pwd=x%20UNION",
                    "id=1%20AND%20pwd=REDACTED%20UNION",
                ),
            ],
        );
        check(
            Part::Path,
            &[
                (
                    "/a;sig=0123456789abcdef/b;password=y",
                    "/a;sig=REDACTED/b;password=REDACTED",
                ),
                ("/a;pwd=x;y/z", "/a;pwd=REDACTED;y/z"),
                ("/sig%3Dx/../api/users/1", ""),
                ("/sig%3D0123456789abcdef/../api", "/sig%3DREDACTED/../api"),
                ("/pwd%3dx/../../etc", "/pwd%3dREDACTED/../../etc"),
                ("/pwd%253dx/../../etc", "/pwd%253dREDACTED/../../etc"),
                ("/pwd%253dx;y/etc", "/pwd%253dREDACTED;y/etc"),
                ("/pwd=x%2f..%2Fetc", "/pwd=REDACTED%2f..%2Fetc"),
                ("/pwd=%252f..%252fetc", ""),
                ("/a;token=abcdef%2fadmin", "/a;token=REDACTED%2fadmin"),
                ("/old?pwd=x/y&b", "/old?pwd=REDACTED/y&b"),
                ("/reset/password/form", ""),
            ],
        );
        check(
            Part::Url,
            &[
                (
                    "https://h/a;pwd=x/y?pwd=x/y&b",
                    "https://h/a;pwd=REDACTED/y?pwd=REDACTED&b",
                ),
                ("https://h/p#pwd=a/b?d&e=f", "https://h/p#pwd=REDACTED&e=f"),
            ],
        );
    }

    // proves: I82
    #[test]
    fn token_is_masked_only_if_it_looks_like_one() {
        check(
            Part::Query,
            &[
                ("access_token=a1b2c3&x=1", "access_token=REDACTED&x=1"),
                ("access_token[]=a1b2c3", "access_token[]=REDACTED"),
                ("token=a-b_c~d.e==", "token=REDACTED"),
                (
                    "X-Amz-Security-Token=t%2Fa%2Bb%2fc%3D&X-Amz-Date=20260101T000000Z",
                    "X-Amz-Security-Token=REDACTED&X-Amz-Date=20260101T000000Z",
                ),
                (
                    "Policy=eyJTdGF0ZW1lbnQi&Signature=a~b_0123456789ab&Key-Pair-Id=APKAEXAMPLE&Expires=1",
                    "Policy=REDACTED&Signature=REDACTED&Key-Pair-Id=REDACTED&Expires=1",
                ),
                (
                    "X-Amz-Foo=abc123&x-amz-z9=AB12cd&X-Amz-Expires=604800&csrfToken=abc123",
                    "X-Amz-Foo=REDACTED&x-amz-z9=REDACTED&X-Amz-Expires=604800&csrfToken=REDACTED",
                ),
                (
                    "apiKey=abc123&sessionId=abc123&otp=123456&code=123456",
                    "apiKey=REDACTED&sessionId=REDACTED&otp=REDACTED&code=REDACTED",
                ),
                ("n=%3Ftoken%3Dab%252Fcde%26x", "n=%3Ftoken%3DREDACTED%26x"),
                ("token=abcdef;a=1|b", "token=REDACTED;a=1|b"),
                (
                    "authorization=Bearer%20abcdef&Authorization=Basic+dTpw%3D%3D",
                    "authorization=Bearer%20REDACTED&Authorization=Basic+REDACTED",
                ),
                ("authorization=abcdef", "authorization=REDACTED"),
                ("authorization=a+b", ""),
                // Too short.
                (
                    "code=12345&token=abcde&sig=0123456789abcde&policy=1001&signature=",
                    "",
                ),
                // Payloads.
                ("policy=1001'%20OR%201=1-------", ""),
                ("signature=<script>alert(1)</script>", ""),
                ("sig=../../../../etc/passwd", ""),
                ("token=..%2F..%2Fetc%2Fpasswd", ""),
                ("token=%2e%2e%2Fetc", ""),
                ("token=abc+def", ""),
                ("token=abc/def", ""),
                ("token=abcdef%00", ""),
                ("token=abcdef%E2%80%A8", ""),
                ("code=abcdef%27&page_token=abc,def", ""),
                (
                    "token=%252Fetc%252Fpasswd&sig=%55%4e%49%4f%4e%2BSELECT%2Bx",
                    "",
                ),
                ("token=%61%64%6d%69%6e%31&code=abc%64ef&otp=abcde%2E", ""),
                ("n=%3Ftoken%3Dabc%2525252Fdef&m=%3Ftoken%3Dabc%2Fdef", ""),
                ("token=a~b%7Ecdef%3D=", "token=REDACTED"),
                // What a payload contains is searched.
                ("token=x%3Fpwd%3Dy", "token=x%3Fpwd%3DREDACTED"),
                ("token=!token=abcdef", "token=!token=REDACTED"),
                ("token=https://u:p@h/", "token=https://u:REDACTED@h/"),
            ],
        );
    }

    // proves: I33
    #[test]
    fn members_of_objects_are_masked() {
        check(
            Part::Query,
            &[
                (
                    r#"q={"password":"x","a":1}"#,
                    r#"q={"password":"REDACTED","a":1}"#,
                ),
                ("q={'password' : 'x'}", "q={'password' : 'REDACTED'}"),
                (
                    "q=%7B%22user%22%3A%7B%22pwd%22%3A+%22a%26b%3Bc%22%7D%7D&z=1",
                    "q=%7B%22user%22%3A%7B%22pwd%22%3A+%22REDACTED(semicolon)%22%7D%7D&z=1",
                ),
                (
                    "q=%257B%2522pwd%2522%253A%2522x%2522%257D",
                    "q=%257B%2522pwd%2522%253A%2522REDACTED%2522%257D",
                ),
                (
                    r#"q={"password":"a\"b\\","c":"d"}"#,
                    r#"q={"password":"REDACTED(quote)\\","c":"d"}"#,
                ),
                (
                    r#"q="{\"pwd\":\"a\\\"b\",\"c\":1}""#,
                    r#"q="{\"pwd\":\"REDACTED(quote)\",\"c\":1}""#,
                ),
                (
                    r#"q={"password":12345,"otp":123456}"#,
                    r#"q={"password":REDACTED,"otp":REDACTED}"#,
                ),
                (
                    r#"q={"token":"ab/cdefg","access_token":"abcdef"}"#,
                    r#"q={"token":"ab/cdefg","access_token":"REDACTED"}"#,
                ),
                (
                    r#"q={\"token\":\"abcdef\",\"code\" : \"abcdef\"}"#,
                    r#"q={\"token\":\"REDACTED\",\"code\" : \"REDACTED\"}"#,
                ),
                (
                    "q=%7B%5C%22token%5C%22%3A%5C%22abcdef%5C%22%7D",
                    "q=%7B%5C%22token%5C%22%3A%5C%22REDACTED%5C%22%7D",
                ),
                (r#"q={"token":"abc\u0064ef"}"#, ""),
                (
                    "q=%7B%22token%22%3A%22ab%2Fcdefg%22%7D",
                    "q=%7B%22token%22%3A%22REDACTED%22%7D",
                ),
                (
                    r#"query={login(password:"x",user:"y")}"#,
                    r#"query={login(password:"REDACTED",user:"y")}"#,
                ),
                (
                    r#"q={"password":["x"],"token" : [ "abcdef"],"pwd":[12]}"#,
                    r#"q={"password":["REDACTED"],"token" : [ "REDACTED"],"pwd":[REDACTED]}"#,
                ),
                (
                    "q=%7B%22pwd%22%3A%5B%22x%22%5D%7D",
                    "q=%7B%22pwd%22%3A%5B%22REDACTED%22%5D%7D",
                ),
                (
                    r#"q={"password":{"a":"b"}}&r={"pwd":[{"a":1}],"pwd":[["x"]],"pwd":[]}"#,
                    "",
                ),
                (r#"q={"password":null,"pwd":true,"pwd":[false]}"#, ""),
                ("query={login(password:$pw)}&q=password:x", ""),
                (r#"q={"password":""}&q={"password"}"#, ""),
                // A quote that is not closed hides nothing behind the parameter.
                (
                    r#"q={"password":"x&id=1;y"#,
                    r#"q={"password":"REDACTED&id=1;y"#,
                ),
                (
                    r#"q={"password":"x;id=1"}"#,
                    r#"q={"password":"REDACTED;id=1"}"#,
                ),
            ],
        );
        check(
            Part::Path,
            &[(r#"/{"pwd":"x/../y"}"#, r#"/{"pwd":"REDACTED/../y"}"#)],
        );
    }

    // proves: I83
    #[test]
    fn only_the_password_before_a_host_is_masked() {
        check(
            Part::Query,
            &[
                (
                    "u=https://me:secret@h/p&a@b",
                    "u=https://me:REDACTED@h/p&a@b",
                ),
                (
                    "u=https%3A%2F%2Fme%3Asecret%40h%2Fp&a",
                    "u=https%3A%2F%2Fme%3AREDACTED%40h%2Fp&a",
                ),
                (
                    "u=https%253A%252F%252Fme%253Aa%252523b%2540h",
                    "u=https%253A%252F%252Fme%253AREDACTED%2540h",
                ),
                (
                    "u=https://me:12345@h&v=http://me:1a,b@h",
                    "u=https://me:REDACTED@h&v=http://me:REDACTED@h",
                ),
                (
                    "q=https://u:secret@h%20or%20mail%20alice@example.com",
                    "q=https://u:REDACTED@h%20or%20mail%20alice@example.com",
                ),
                (
                    "u=postgres://me:a@b@[::1]/",
                    "u=postgres://me:REDACTED@[::1]/",
                ),
                (
                    r#"u={"a":"https:\/\/u:p@h"}"#,
                    r#"u={"a":"https:\/\/u:REDACTED@h"}"#,
                ),
                (
                    "u=https://u:p'%3b@h",
                    "u=https://u:REDACTED(quote,semicolon)@h",
                ),
                ("u=https://me@h/&v=https://:@h/&w=https://me:@h", ""),
                ("u=//me:secret@h/", ""),
                ("q=//1'%20UNION%20SELECT%20password%20FROM%20users--@", ""),
                ("q=x://1:'+UNION+SELECT+1@h", ""),
                ("q=x://1:<svg>@h", ""),
                ("q=x://1:a@", ""),
                // Evidence: no client writes a password like these.
                ("u=https://u:p'%20@h", ""),
                ("u=http://h:80%2F..%2F..%2Fetc%2Fpasswd@x", ""),
                ("u=http://h:a..b@x&v=http://h:%2e%2e@x", ""),
                ("u=https://h:443%3Fmail%3Dalice@example.com", ""),
                ("u=https://h:x%253Fmail@example.com", ""),
                (
                    "q=visit%20http://localhost:8080%20or%20mail%20alice@example.com",
                    "",
                ),
                ("urls=http://a:80,alice@example.com", ""),
                (
                    "next=https%3A%2F%2Fh%26time%3D10:30%26email%3Dalice@example.com",
                    "",
                ),
                ("q=http://1:%27%20UNION%20SELECT%20password--@h", ""),
                ("q=http://1:%27%0aUNION%0aSELECT%0apassword@h", ""),
                ("q=x://a:cmd=whoami@h&u=x://a:cmd%3dwhoami@h", ""),
                ("u=https://u:p&id=1@h", ""),
                (
                    "redirect=%2Fusers%2Falice@example.com&file=%2F..%2Fetc:x%2Fpasswd@",
                    "",
                ),
            ],
        );
        check(
            Part::Path,
            &[
                ("//user:p@host/x", ""),
                ("/api//..;..;admin@x/1", ""),
                ("/api/x://a:..;..;admin@x/1", ""),
                ("/api/x://a:..%2Fadmin@x/1", ""),
                ("/proxy/https://u:p@h/x", "/proxy/https://u:REDACTED@h/x"),
                ("/api/items//<svg%20onload=alert(1)>@x", ""),
                ("/npm/@scope%2Fname@1.2.3", ""),
                ("/@me/a@b", ""),
                ("https://u:p;q@h/", ""),
            ],
        );
        check(
            Part::Url,
            &[
                (
                    "https://u:p;q,r@h/?a=b#token=abcdef",
                    "https://u:REDACTED(semicolon)@h/?a=b#token=REDACTED",
                ),
                ("/x://a:..;..;admin@x/1", ""),
                ("https://a:b%2f..%2f@h", ""),
                ("https://a:b%2fc@h/?u=https://a:b%252fc@h", ""),
            ],
        );
    }

    const HEADER: &str = "eyJhbGciOiJub25lIn0";

    // proves: I84
    #[test]
    fn web_token_keeps_only_its_header() {
        let token = format!("{HEADER}.eyJhIjoxfQ.c2ln");
        let kept = format!("{HEADER}.REDACTED.REDACTED");
        for around in [
            "t=*&b=1",
            "*",
            "auth=Bearer+*",
            "auth=Bearer%20*&a",
            "jwt:*",
            "t=s%3A*",
            "t=%2527*%2527",
            "/verify/*/now",
            "token=*",
            "{\"token\":\"*\"}",
            "authorization=Bearer%20*",
            "a|*|b",
        ] {
            assert_eq!(
                masked(&around.replace('*', &token), Part::Query),
                around.replace('*', &kept)
            );
        }
        let stays = |text: &str| assert_eq!(masked(text, Part::Query), text);
        stays(&format!("t={HEADER}.eyJhIjoxfQ&u=keyJob.a.b"));
        stays(&format!("x{token}"));
        stays(&format!("t={HEADER}..&u=eyJquery.min.js&v=eyJ"));
        for (text, expected) in [
            ("*.eyJhIjoxfQ.", "*.REDACTED."),
            ("*..c2ln", "*..REDACTED"),
            ("*.a.b.c.d", "*.REDACTED.REDACTED.REDACTED.REDACTED"),
            ("*%3D.a%2Eb==&x", "*%3D.REDACTED%2EREDACTED&x"),
            ("eyJh.a.b", "eyJh.REDACTED.REDACTED"),
            ("%65yJh.a.b/c", "%65yJh.REDACTED.REDACTED/c"),
        ] {
            let [text, expected] = [text, expected].map(|text| text.replace('*', HEADER));
            assert_eq!(masked(&text, Part::Path), expected);
        }
    }

    // proves: I84
    #[test]
    fn bearer_token_is_masked() {
        check(
            Part::Query,
            &[
                ("auth=Bearer+abc123&x", "auth=Bearer+REDACTED&x"),
                ("auth=bearer%20abc123%2Fd+x", "auth=bearer%20REDACTED+x"),
                (
                    "n=%3Fa%3DBEARER%2520abc123%26b",
                    "n=%3Fa%3DBEARER%2520REDACTED%26b",
                ),
                ("Bearer abc123", "Bearer REDACTED"),
                (
                    "a=Bearer+Abcdef&b=Bearer+aaaaaaaaaaaaaaaa",
                    "a=Bearer+REDACTED&b=Bearer+REDACTED",
                ),
                (
                    "q=%7B%22x%22:%22Bearer%20abc123%22%7D&a=%22Bearer%20abc123%22",
                    "q=%7B%22x%22:%22Bearer%20REDACTED%22%7D&a=%22Bearer%20REDACTED%22",
                ),
                (
                    r#"q={\"x\":\"Bearer abc123\"}&a='Bearer+abc%2F123'&b="Bearer abc123 x""#,
                    r#"q={\"x\":\"Bearer REDACTED\"}&a='Bearer+REDACTED'&b="Bearer REDACTED x""#,
                ),
                ("a=%22Bearer%20abc123%27%22&b='Bearer+abc123%22", ""),
                ("q=bearer+certificate&a=Bearer+a1b2c&b=Bearer+abc123'", ""),
                ("q=ball-bearer+abc123", ""),
            ],
        );
    }

    // proves: I85
    #[test]
    fn edited_names_are_masked() {
        let names = Names::parse("on,+pin,-password").unwrap().unwrap();
        for (text, expected) in [
            (
                "pin=1'&user[pin]=2&password=3",
                "pin=REDACTED(quote)&user[pin]=REDACTED&password=3",
            ),
            ("PIN=0&token=abcdef", "PIN=REDACTED&token=REDACTED"),
        ] {
            assert_eq!(masked_by(text, Part::Query, &names), expected);
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let words = prop::sample::select(vec![
            "password",
            "sig",
            "x-AMZ-Security-Token",
            "X-Amz-a9",
            "X-Amz-Date",
            "csrfToken",
            "Refresh_token",
            "code",
            "aaaaaaaaaaaaaaaaaaaaaaaaa",
            "x",
            "9",
            "=",
            "&",
            "?",
            "/",
            "//",
            "://",
            ":",
            ";",
            "|",
            "#",
            ",",
            "[",
            "]",
            ".",
            "..",
            "-",
            "+",
            "\"",
            "\\",
            "'",
            "{",
            "}",
            "%",
            "%3d",
            "%2F",
            "%22",
            "%252f",
            "%2526",
            "%70",
            "@",
            "%40",
            "eyJ",
            "eyJh",
            "eyJh.eyJh.x",
            "bearer",
            "\u{e9}",
            " ",
            "\n",
        ]);
        prop::collection::vec(words, 0..12).prop_map(|words| words.concat())
    }

    fn parts() -> impl Strategy<Value = Part> {
        prop::sample::select(vec![Part::Path, Part::Query, Part::Url])
    }

    fn slashes(text: &str) -> usize {
        text.matches('/').count()
    }

    /// The names of the parameters of a query.
    fn parameters(text: &str, part: Part) -> Vec<&str> {
        let query = match part {
            Part::Path => "",
            Part::Query => text,
            Part::Url => text.find(['?', '#']).map_or("", |at| &text[at + 1..]),
        };
        let names = query
            .split('&')
            .map(|parameter| parameter.split('=').next().unwrap());
        names.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// The fast path never skips text in which the slow one finds a credential.
        #[test]
        fn plain_text_has_no_credential(text in text(), part in parts()) {
            let names = Names::default();
            let found = Finder::new(text.as_bytes(), part, &names).next();
            prop_assert!(!is_plain(text.as_bytes(), &names) || found.is_none(), "{}: {:?}", text, found);
        }

        // proves: I81
        #[test]
        fn masking_keeps_slashes_and_names(text in text(), part in parts()) {
            let masked = masked(&text, part);
            let path = |text: &str| match part {
                Part::Path => slashes(text),
                Part::Query => 0,
                Part::Url => slashes(text.split(['?', '#']).next().unwrap()),
            };
            prop_assert_eq!(path(&masked), path(&text), "{}", masked);
            let is_plain = |name: &&str| !name.contains(['%', '"', '\'', '@', ':', '+', ' ', '\n']) && !name.contains("eyJ");
            let kept: Vec<_> = parameters(&text, part).into_iter().filter(is_plain).collect();
            let found = parameters(&masked, part);
            prop_assert_eq!(found.len(), parameters(&text, part).len(), "{}", masked);
            for name in kept {
                prop_assert!(found.contains(&name), "{}: {}", name, masked);
            }
        }

        // proves: I81
        #[test]
        fn text_without_a_credential_is_unchanged(words in prop::collection::vec("[a-z]{0,2}|[&=/?;@%+.]|%[2-5][0-9a-f]|//|\"", 0..20), part in parts()) {
            let text = words.concat();
            let flat = flat(&text);
            let names = ["pwd", "sig", "otp", "code", "token", "://", "eyJ", "bearer"];
            prop_assume!(!names.iter().any(|name| flat.contains(name)));
            prop_assert_eq!(masked(&text, part), text);
        }
    }

    fn flat(text: &str) -> String {
        let mut cursor = Cursor {
            text: text.as_bytes(),
            at: 0,
        };
        let bytes = std::iter::from_fn(|| cursor.next()).map(|character| character.byte);
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
    }

    /// Long patterns that would take quadratic time if parts of them were searched again and again.
    #[test]
    fn hostile_text_is_searched_in_linear_time() {
        for pattern in [
            "token=",
            "sig=a",
            "password[",
            "password[a]",
            "password+",
            "eyJ",
            "eyJh.",
            ".eyJh",
            "=eyJh=",
            "x://",
            "x%3A%2F%2Fa:",
            "x://a:@",
            "bearer+",
            "bearer+1",
            "\"password\":",
            "\"token\":\"",
            "\\\"",
            "token%3D",
            "authorization=a+",
            "a@",
            "%252525252525",
        ] {
            let text = pattern.repeat(100_000 / pattern.len()) + "<";
            for part in [Part::Path, Part::Query, Part::Url] {
                masked(&text, part);
            }
        }
    }
}
