//! `/init_session`: makes a session known and, on most doors, tells the arena engine of it.
//!
//! The record goes `none` -> `initialising` -> `ready`, with `arena.init` in between. Whoever dies leaves `initialising`
//! behind, and the next init repeats the publish; only `ready` is a duplicate.

use herald_protocol::{
    SessionId,
    record::{Arena as Told, Init, Lang, SessionRecord},
};

use crate::{
    arena::{Arena, QueryParams},
    refusal::Refusal,
    sessions::Sessions,
};
use herald_runtime::bucket::BucketError;

/// Initialises a session. With `tell`, the engine is told of it, unless a start has done that before.
pub(crate) async fn init(
    sessions: &Sessions,
    arena: &Arena,
    session: &SessionId,
    lang: Option<Lang>,
    query_params: &QueryParams,
    tell: bool,
) -> Result<(), Refusal> {
    let record = enter(sessions, session).await?.ok_or_else(|| Refusal::bad("Session already exists"))?;
    if tell && record.arena == Told::None {
        arena.init(session, lang, query_params).await?;
    }
    let ready = |record: &mut SessionRecord| {
        record.init = Init::Ready;
        record.lang = lang.or(record.lang);
        if tell {
            record.arena = Told::Sent;
        }
    };
    sessions.change(session, ready).await?;
    Ok(())
}

/// Brings the record to `initialising`; `None` where it is beyond that.
async fn enter(sessions: &Sessions, session: &SessionId) -> Result<Option<SessionRecord>, BucketError> {
    let mut races = 0;
    loop {
        let slot = sessions.slot(session).await?;
        let mut record = slot.record.unwrap_or_default();
        match record.init {
            Init::Ready => return Ok(None),
            Init::Initialising => return Ok(Some(record)),
            Init::None => record.init = Init::Initialising,
        }
        match sessions.write(session, &record, slot.revision).await {
            Ok(()) => return Ok(Some(record)),
            Err(error) if error.is_conflict() && races < 32 => races += 1,
            Err(error) => return Err(error),
        }
    }
}
