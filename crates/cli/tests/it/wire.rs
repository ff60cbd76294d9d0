//! The bytes an upstream and a client get, direct and through the program: the same but for the
//! fields that belong to one hop.

use testbed::authority::{certificates_from_pem, client_config};
use testbed::client::Client;
use testbed::script::Step;
use testbed::upstream::UpstreamOptions;

use crate::site::{NAME, Site, only_flow};
use crate::world::World;

/// A request with its response. The lines that begin with `-` belong to one hop: they are sent
/// without it, and nobody gets them but who is next.
#[derive(Clone, Copy, Debug)]
struct Case {
    about: &'static str,
    request: &'static str,
    response: &'static str,
}

const CASES: &[Case] = &[
    Case {
        about: "order, case, duplicates and white space of fields",
        request: "GET /a%2Fb/../c?q=[1]&q=%zz HTTP/1.1\r\nhOST: localhost\r\nX-B: 1\r\nx-a:2 \r\nX-B:\t3\r\nX-Empty:\r\n\r\n",
        response: "HTTP/1.1 200 Fine,  thanks\r\nset-cookie: a=1\r\nDATE: today\r\nSet-Cookie: b=2\r\ncontent-LENGTH: 2\r\n\r\nok",
    },
    Case {
        about: "chunk sizes, extensions and trailers",
        request: "POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n0003;first=\"1\"\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n",
        response: "HTTP/1.1 201 Created\r\nTransfer-Encoding: Chunked\r\nTrailer: X-T\r\n\r\n1;ext\r\na\r\n02\r\nbc\r\n000;last\r\nX-T: end\r\n\r\n",
    },
    Case {
        about: "fields of one hop",
        request: "GET /hop HTTP/1.1\r\nHost: localhost\r\n-Connection: keep-alive, X-Mine\r\n-X-Mine: 1\r\n-Keep-Alive: timeout=5\r\n-Proxy-Connection: keep-alive\r\n-Proxy-Authorization: Basic eA==\r\n-TE: gzip\r\nX-Yours: 2\r\n\r\n",
        response: "HTTP/1.1 200 OK\r\n-Connection: X-Theirs\r\n-X-Theirs: 1\r\n-Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\nX-Ours: 2\r\n\r\n",
    },
    Case {
        about: "interim responses",
        request: "GET /hints HTTP/1.1\r\nHost: localhost\r\n\r\n",
        response: "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend",
    },
    Case {
        about: "bytes that are no text",
        request: "PUT /bytes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nX-Latin: \u{e9}\r\n\r\n\0\u{1}\u{7f}\r\n\n",
        response: "HTTP/1.1 200 OK\r\nX-Latin: \u{e9}\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\u{1f}\0\r\nx",
    },
    Case {
        about: "no content",
        request: "DELETE /gone HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        response: "HTTP/1.1 204 No Content\r\nX-Done: yes\r\n\r\n",
    },
    Case {
        about: "a method nobody knows",
        request: "BREW /pot HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\ntea",
        response: "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 5\r\n\r\nshort",
    },
];

#[test]
fn bytes_are_the_same_direct_and_through() {
    std::thread::scope(|scope| {
        for case in CASES {
            scope.spawn(|| check(case));
        }
    });
}

fn check(case: &Case) {
    let direct = exchange(case, Way::Direct);
    assert_eq!(
        direct.request,
        sent(case.request).as_bytes(),
        "{}",
        case.about
    );
    let through = exchange(case, Way::Through);
    same(&through.request, &passed_on(case.request), case.about);
    same(&through.response, &passed_on(case.response), case.about);
    same(&direct.response, &sent(case.response), case.about);
}

fn same(got: &[u8], wanted: &str, about: &str) {
    assert_eq!(
        got.escape_ascii().to_string(),
        wanted.as_bytes().escape_ascii().to_string(),
        "{about}"
    );
}

/// The text with the lines of one hop in it.
fn sent(text: &str) -> String {
    text.replace("\r\n-", "\r\n")
}

/// The text without the lines of one hop.
fn passed_on(text: &str) -> String {
    let kept = |line: &&str| !line.starts_with('-');
    text.split_inclusive("\r\n").filter(kept).collect()
}

/// How a request gets to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Through,
}

/// Every byte that the upstream and the client got.
#[derive(Debug)]
struct Got {
    request: Vec<u8>,
    response: Vec<u8>,
}

fn exchange(case: &Case, way: Way) -> Got {
    let rule = match way {
        Way::Direct => sent,
        Way::Through => passed_on,
    };
    let script = vec![
        Step::Read(rule(case.request).len()),
        Step::send(sent(case.response)),
        Step::CloseWrite,
        Step::ReadToEnd,
    ];
    let world = World::new();
    let site = Site::certified(&world, |authority| {
        UpstreamOptions::scripts(Some(authority.issue(&[NAME])), vec![script])
    });
    let mut service = site.serve(&world);
    let own = world.oriel(&["ca", "export"]).stdout;
    let exchanged = async {
        let alpn = ["http/1.1"];
        let mut client = match way {
            Way::Direct => {
                let mut client = Client::connect(site.upstream.address()).await.unwrap();
                let trust = site.authority.client_config(&alpn);
                client.start_tls(NAME, trust).await.unwrap();
                client
            }
            Way::Through => {
                let target = site.authority_of_url();
                let mut client = Client::connect_through(service.proxy, &target)
                    .await
                    .unwrap();
                let roots = certificates_from_pem(own.as_bytes()).unwrap();
                client
                    .start_tls(NAME, client_config(&roots, &alpn))
                    .await
                    .unwrap();
                client
            }
        };
        client.send(sent(case.request)).await.unwrap();
        let mut response = client
            .read_exact(rule(case.response).len())
            .await
            .unwrap()
            .to_vec();
        client.close_write().await.unwrap();
        // There is nothing more; how the end of TLS is told is not compared.
        if let Ok(more) = client.read_some().await {
            response.extend(more);
        }
        response
    };
    let limit = std::time::Duration::from_secs(10);
    let response = site
        .runtime
        .block_on(async { tokio::time::timeout(limit, exchanged).await })
        .expect("it ends within the limit");
    // The upstream sees its connection end when the program does.
    assert_eq!(service.stop(), Some(0));
    let played = site.runtime.block_on(site.upstream.wait_for_scripts(1));
    let all_but_the_end = played[0]
        .failure
        .as_ref()
        .is_none_or(|(step, _)| *step == 3);
    assert!(all_but_the_end, "{}: {played:?}", case.about);
    if way == Way::Through {
        assert_eq!(only_flow(&world)["state"], "completed", "{}", case.about);
    }
    Got {
        request: played[0].received.to_vec(),
        response,
    }
}
