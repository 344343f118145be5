//! Ways out of the folder of pictures, and around the paths that there are.

use herald_testkit::{Edge, Nats, http::send, within};
use hyper::Method;

use super::{MINUTE, Notes, get_raw, status};
use crate::support::Engine;

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_the_folder_of_pictures() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("pictures");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(above.path().join("secret.png"), "secret").unwrap();
        std::fs::write(folder.join("pavel.png"), b"\x89PNG picture").unwrap();
        for hidden in ["notes.txt", ".hidden.png", "page.html", "page.svg", "a b.png"] {
            std::fs::write(folder.join(hidden), "secret").unwrap();
        }
        std::os::unix::fs::symlink(above.path().join("secret.png"), folder.join("linked.png")).unwrap();
        std::os::unix::fs::symlink(above.path(), folder.join("up")).unwrap();
        let config = format!("[[ws-edge.listeners]]\nbuiltin = \"arena\"\navatars = {folder:?}\n");
        let edge = Edge::new(&nats).config(config).start().await;
        let secret = above.path().join("secret.png");
        let (secret, base) = (secret.to_str().unwrap(), "/static/agent-skins");
        let encoded = secret.replace('/', "%2f");
        let tricks = [
            "/../secret.png",
            "/..%2fsecret.png",
            "/%2e%2e/secret.png",
            "/%2e%2e%2fsecret.png",
            "/%252e%252e%252fsecret.png",
            "/..%252fsecret.png",
            "/..\\secret.png",
            "/..%5csecret.png",
            "/%2e%2e%5csecret.png",
            "/....//secret.png",
            "/..;/secret.png",
            "/.%00./secret.png",
            "/..%c0%afsecret.png",
            "/%c0%ae%c0%ae/secret.png",
            "/%uff0e%uff0e/secret.png",
            "/..%ef%bc%8fsecret.png",
            "/pavel.png/../../secret.png",
            "/pavel.png%2f..%2f..%2fsecret.png",
            "/up/secret.png",
            "/up%2fsecret.png",
            "/linked.png",
            "//secret.png",
            "/./../secret.png",
            "/pictures/../secret.png",
            "/.hidden.png",
            "/notes.txt",
            "/notes.txt%00.png",
            "/page.html",
            "/page.svg",
            "/a%20b.png",
            "/pavel.png%00",
            "/pavel.png%00.txt",
            "/pavel.png/",
            "/pavel.png/.",
            "/pavel.png.",
            "/pavel.png%20",
            "/pavel.png::$DATA",
            "/PAVEL.PNG",
            "/pavel%2epng",
            "/p%61vel.png",
            "/",
            "",
            "/.",
            "/..",
            "/CON",
            "/C:%5csecret.png",
            "/%5c%5chost%5cshare",
            "/%2fproc%2fself%2fenviron",
        ];
        let whole = [
            secret.to_owned(),
            format!("{base}/{encoded}"),
            format!("{base}/{secret}"),
            "/etc/passwd".to_owned(),
            "/static/../secret.png".to_owned(),
            "/static//agent-skins/../../secret.png".to_owned(),
            "/static%2fagent-skins%2f..%2fsecret.png".to_owned(),
            "/ws/../static/agent-skins/../secret.png".to_owned(),
        ];
        let paths = tricks.iter().map(|trick| format!("{base}{trick}")).chain(whole);
        for path in paths {
            let answer = get_raw(&edge, &path, "").await;
            assert!(matches!(status(&answer), 400 | 404), "{path}: {answer}");
            assert!(!answer.ends_with("secret"), "{path}: {answer}");
        }
        let picture = edge.get("/static/agent-skins/pavel.png").await.expect_status(200);
        assert_eq!(picture.header("x-content-type-options"), "nosniff");
        // A range of it is one; ten thousand are none.
        let url = edge.http("/static/agent-skins/pavel.png");
        let many = format!("bytes={}", vec!["0-"; 5000].join(","));
        for (range, expected) in
            [("bytes=0-3", 206), (many.as_str(), 416), ("bytes=9-1", 416), ("bytes=99999999999999999999-", 416)]
        {
            let reply = send(Method::GET, &url, &[("range", range)], "").await;
            assert!(reply.status == expected || reply.status == 200, "{range:.20}: {}", reply.status);
            assert!(reply.status == 416 || reply.body.len() <= picture.body.len(), "{range:.20}");
        }
        // What is put there later is no picture of ours either.
        std::os::unix::fs::symlink(above.path().join("secret.png"), folder.join("late.png")).unwrap();
        edge.get("/static/agent-skins/late.png").await.expect_status(404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_means_to_an_engine_what_it_means_to_the_door() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let notes = Notes::default();
        let _gm = engine.serve(notes.router()).await;
        let edge = Edge::new(&nats).start().await;
        // It goes on as it came: nothing is decoded, folded or cut, so nobody takes it for another one.
        for path in [
            "/api/images/s/..%2f..%2fstate",
            "/api/../submit_news",
            "/api/%2e%2e/submit_news",
            "/api//state",
            "/api/./state",
            "/api/state%00",
            "/api/a%5cb",
            "/api/state/",
            "/api/%73tate",
        ] {
            let answer = get_raw(&edge, path, "").await;
            assert_eq!(status(&answer), 200, "{path}: {answer}");
            assert!(answer.contains(&format!("\"uri\":{:?}", path)), "{path}: {answer}");
            let reply = answer.to_lowercase();
            assert!(reply.contains("\r\nx-content-type-options: nosniff\r\n"), "{answer}");
        }
        let asked = notes.all().len();
        for path in [
            "/submit_news/",
            "/submit_news/x",
            "/submit%5fnews",
            "/./submit_news",
            "//submit_news",
            "/API/state",
            "/api",
            "/app/submit_news/..",
            "/../api/state",
            "*",
            "//",
        ] {
            let answer = get_raw(&edge, path, "").await;
            assert!(matches!(status(&answer), 400 | 404), "{path}: {answer}");
        }
        assert_eq!(notes.all().len(), asked);
    })
    .await;
}
