//! A connection as services have it.

use herald_runtime::{
    Context,
    config::Common,
    nats::{self, Nats},
};
use herald_testkit::Nats as Server;

pub(crate) async fn connect(server: &Server) -> Nats {
    connect_with(server, |_| {}).await
}

pub(crate) async fn connect_with(server: &Server, change: impl FnOnce(&mut Common)) -> Nats {
    let mut common = Common::with_operations_port(0);
    common.nats.url = server.url();
    change(&mut common);
    let context = Context::new("test", common);
    nats::connect(&context.common.nats, "nats", &context).await.unwrap()
}
