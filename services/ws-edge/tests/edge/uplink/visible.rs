//! Topics that only some may see: no way shows them to anybody else, and nothing tells that they are there.

use herald_protocol::UserToken;
use herald_testkit::{Nats, Service, sse, within, ws};

use super::{BOUND, MINUTE, door, join, token};
use crate::support::Engine;

const RULES: &str = "visible = [\"gm.dm.> for role:dm\", \"gm.user.{user}.> for user or role:dm\"]";

/// What somebody may see of each event, by its number, in the order of the log.
fn publish_order() -> Vec<(String, Option<&'static str>)> {
    let user = |name: &str| format!("user.{}.hand", UserToken::of(name));
    vec![
        ("phase".to_owned(), None),
        ("dm.note".to_owned(), Some("dm")),
        (user("ann"), Some("ann")),
        (user("bob"), Some("bob")),
        ("phase".to_owned(), None),
        ("dm.deep.note".to_owned(), Some("dm")),
        (user("ann"), Some("ann")),
        ("end".to_owned(), None),
    ]
}

/// Who asks: user, role, and whether they see what is for that one.
const WHO: [(&str, &str); 4] = [("ann", "player"), ("bob", ""), ("master", "dm"), ("dm", "player")];

fn sees(user: &str, role: &str, whose: Option<&str>) -> bool {
    whose.is_none_or(|whose| role == "dm" || (whose != "dm" && whose == user))
}

async fn frames(edge: &Service, path: &str, user: &str, role: &str, count: usize) -> Vec<ws::Frame> {
    let socket = join(&edge.ws(path), user, role, ws::V1).await;
    socket.wait_events(count, BOUND).await;
    // What comes next comes behind all that is before it.
    socket.events()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_some_is_shown_to_them_alone_on_every_way() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let sse_route = format!("{RULES}\ntransport = \"sse\"");
        let edge = door(&nats, &[("/ws/{sid}", RULES), ("/sse/{sid}", &sse_route)]).set("ring.frames", 4).start().await;
        let mut live = Vec::new();
        for (user, role) in WHO {
            let socket = join(&edge.ws("/ws/s1"), user, role, ws::V1).await;
            socket.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
            live.push(socket);
        }
        let order = publish_order();
        let mut seqs = Vec::new();
        for (number, (topic, _)) in order.iter().enumerate() {
            seqs.push(engine.publish(&format!("gm.s1.{topic}"), number.to_string()).await);
        }
        for ((user, role), live) in WHO.into_iter().zip(live) {
            let mine: Vec<usize> = (0..order.len()).filter(|at| sees(user, role, order[*at].1)).collect();
            let shown =
                |frames: &[ws::Frame]| frames.iter().map(|it| it.data().as_u64().unwrap() as usize).collect::<Vec<_>>();
            // What everybody sees comes last: nothing hidden is still on its way then.
            live.wait_events(mine.len(), BOUND).await;
            assert_eq!(shown(&live.events()), mine, "{user} live");
            live.check_order();
            let replayed = frames(&edge, "/ws/s1?after=0", user, role, mine.len()).await;
            assert_eq!(shown(&replayed), mine, "{user} from history");
            // What comes before an event is what they were shown before it: nobody can count what is hidden.
            let prevs: Vec<_> = replayed.iter().map(|frame| frame.prev().unwrap()).collect();
            let before: Vec<_> = [0].into_iter().chain(mine.iter().map(|at| seqs[*at])).take(mine.len()).collect();
            assert_eq!(prevs, before, "{user}");
            let resumed = frames(&edge, &format!("/ws/s1?after={}", seqs[3]), user, role, 2).await;
            let behind: Vec<_> = mine.iter().copied().filter(|at| *at > 3).collect();
            assert!(behind.starts_with(&shown(&resumed)) || shown(&resumed) == behind, "{user} resumed");
            let snapshot = frames(&edge, "/ws/s1?snapshot=1", user, role, 2).await;
            let last_of_each = |at: &usize| !order[at + 1..].iter().any(|(topic, _)| *topic == order[*at].0);
            let state: Vec<_> = mine.iter().copied().filter(last_of_each).collect();
            assert!(state.starts_with(&shown(&snapshot)), "{user} snapshot: {:?} of {state:?}", shown(&snapshot));

            let url = edge.http(&format!("/sse/s1?after=0&token={}", token(user, role)));
            let stream = sse::Client::connect(&url, None).await;
            stream.wait_events(mine.len(), BOUND).await;
            let streamed: Vec<_> = stream
                .events()
                .iter()
                .filter_map(|event| event.json()["data"].as_u64())
                .map(|it| it as usize)
                .collect();
            assert_eq!(streamed, mine, "{user} by event stream");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_another_role_with_a_fresh_token_comes_back_to_see_what_is_for_it() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = door(&nats, &[("/ws/{sid}", RULES), ("/open/{sid}", "")]).start().await;
        let fresh = |role: &str| {
            serde_json::json!({"event": "herald.token", "data": {"token": token("ann", role)}}).to_string()
        };
        let ann = join(&edge.ws("/ws/s1"), "ann", "dm", ws::V1).await;
        ann.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        ann.send_text(fresh("dm")).await;
        engine.publish("gm.s1.dm.note", "1").await;
        ann.wait_events(1, BOUND).await;
        ann.send_text(fresh("player")).await;
        let end = ann.wait_end(BOUND).await;
        assert_eq!(end.code(), 1012, "{ann:?}");
        let open = join(&edge.ws("/open/s1"), "ann", "dm", ws::V1).await;
        open.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        open.send_text(fresh("player")).await;
        engine.publish("gm.s1.dm.note", "2").await;
        open.wait_events(1, BOUND).await;
    })
    .await;
}
