//! What is told of a message whose host is not to be looked into: that it was, by which method, to
//! which host, with which status. Nothing of its path, its query and its fields.

use traffic::{Head, Scheme, Target};

/// The head of a request: its method, and whom it asks in absolute form, without a path.
pub(super) fn of_request(head: &Head, scheme: Scheme, target: &Target) -> Head {
    let (method, _) = head.request_line().unwrap_or_default();
    let (scheme, authority) = (scheme.as_str(), target.authority(scheme));
    let version = head.version.as_str();
    with_text(head, &format!("{method} {scheme}://{authority} {version}"))
}

/// The head of a response: its status.
pub(super) fn of_response(head: &Head) -> Head {
    let version = head.version.as_str();
    let status = head.status().unwrap_or_default();
    with_text(head, &format!("{version} {status}"))
}

fn with_text(head: &Head, start_line: &str) -> Head {
    Head {
        version: head.version,
        text: format!("{start_line}\r\n\r\n").into(),
    }
}

/// A URL up to its authority.
pub(super) fn of_url(url: &mut String) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(authority..).unwrap_or_default();
    if let Some(end) = rest.find(['/', '?', '#']) {
        url.truncate(authority + end);
    }
}

#[cfg(test)]
mod tests {
    use traffic::Version;

    use super::*;

    fn head(version: Version, text: &str) -> Head {
        Head {
            version,
            text: text.to_owned().into(),
        }
    }

    #[test]
    fn no_path_and_no_field_is_in_an_outline() {
        let target = Target::parse("a.test:8080", 80).unwrap();
        let request = head(
            Version::Http11,
            "POST http://a.test:8080/x?y HTTP/1.1\r\nA: b\r\n\r\n",
        );
        let told = of_request(&request, Scheme::Http, &target);
        assert_eq!(told.text, "POST http://a.test:8080 HTTP/1.1\r\n\r\n");
        assert_eq!(told.request_line(), Some(("POST", "http://a.test:8080")));
        let request = head(
            Version::Http2,
            "GET /x?y HTTP/2\r\n:authority: a.test:8080\r\n\r\n",
        );
        let told = of_request(&request, Scheme::Http, &target);
        assert_eq!(told.text, "GET http://a.test:8080 HTTP/2\r\n\r\n");
        let response = head(Version::Http10, "HTTP/1.0 404 Secret\r\nA: b\r\n\r\n");
        let told = of_response(&response);
        assert_eq!(
            (&*told.text, told.status()),
            (&b"HTTP/1.0 404\r\n\r\n"[..], Some(404))
        );
    }

    #[test]
    fn no_path_is_in_the_outline_of_a_url() {
        for (url, left) in [
            ("https://gw.test/a?b", "https://gw.test"),
            ("https://gw.test:1?b", "https://gw.test:1"),
            ("https://gw.test", "https://gw.test"),
        ] {
            let mut url = url.to_owned();
            of_url(&mut url);
            assert_eq!(url, left);
        }
    }
}
