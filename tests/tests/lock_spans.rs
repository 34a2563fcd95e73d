//! What whoever traces is told of locks: alone in its process, because it asks for all spans of it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use coord::{embedded::Server, locked};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

/// The spans that have ended, with their fields and what was said inside of them.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<Section>>>);

#[derive(Clone, Debug, Default)]
struct Section {
    name: &'static str,
    fields: BTreeMap<&'static str, String>,
    said: Vec<String>,
}

impl Visit for Section {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut section = Section {
            name: attributes.metadata().name(),
            ..Section::default()
        };
        attributes.record(&mut section);
        let span = context.span(id).unwrap();
        span.extensions_mut().insert(section);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let mut extensions = span.extensions_mut();
        values.record(extensions.get_mut::<Section>().unwrap());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == module_path!()
            && let Some(span) = context.event_span(event)
        {
            let mut said = Section::default();
            event.record(&mut said);
            let mut extensions = span.extensions_mut();
            let section = extensions.get_mut::<Section>().unwrap();
            section.said.extend(said.fields.into_values());
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        if span.metadata().target() == "coord::lock" {
            let section = span.extensions_mut().remove::<Section>().unwrap();
            self.0.lock().unwrap().push(section);
        }
    }
}

impl Told {
    fn take(&self) -> Vec<Section> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[locked(read = "orders/{id}")]
async fn look(id: u64) -> coord::Result<()> {
    tracing::info!("looking");
    tokio::task::yield_now().await;
    tracing::info!("still looking");
    Ok(())
}

#[tokio::test]
async fn an_acquire_and_a_section_are_a_span_each() {
    let told = Told::default();
    tracing_subscriber::registry().with(told.clone()).init();
    let server = Server::start().await.unwrap();
    let coordinator = server.coordinator().await.unwrap();
    coord::set_global(coordinator.clone());

    look(7).await.unwrap();
    let [acquire, held] = told.take().try_into().unwrap();
    assert_eq!([acquire.name, held.name], ["lock.acquire", "lock.held"]);
    for section in [&acquire, &held] {
        assert_eq!(section.fields["key"], "orders/7");
        assert_eq!(section.fields["mode"], "read");
        assert_eq!(section.fields["label"], "orders/{id}");
        assert!(section.fields["token"].parse::<i64>().unwrap() > 0);
        assert!(section.fields.contains_key("waited"));
    }
    assert_eq!(acquire.fields["token"], held.fields["token"]);
    // Also what it says after it was resumed.
    assert_eq!(held.said, ["looking", "still looking"]);
    assert!(!held.fields.contains_key("lost"));

    // One that is not got has no section; one inside of another hold has none of its own.
    let guard = coordinator.lock("jobs").acquire().await.unwrap();
    coordinator.lock("jobs").try_acquire().await.unwrap_err();
    drop(guard);
    let names: Vec<_> = told.take().iter().map(|section| section.name).collect();
    assert_eq!(names, ["lock.acquire", "lock.acquire", "lock.held"]);
    let outer = coordinator.lock("jobs").run(async |_| {
        let inner = coordinator.lock("jobs").reentrant();
        inner.run(async |_| tracing::info!("inside")).await
    });
    outer.await.unwrap().unwrap();
    let outer = told.take().pop().unwrap();
    assert_eq!(
        (outer.name, outer.said),
        ("lock.held", vec!["inside".to_owned()])
    );

    // A loss is told.
    let hang = coordinator.lock("hangs").max_hold(Duration::from_secs(1));
    let hang = hang.run(async |_| std::future::pending::<()>().await);
    hang.await.unwrap_err();
    assert_eq!(told.take().pop().unwrap().fields["lost"], "max_hold");
}
