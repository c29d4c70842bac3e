//! Parts of the description of a route: what its row does not show by itself.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use usherd_contract::vocabulary;

/// Values by their names; without a name where there is one alone.
pub(crate) type Examples = &'static [(&'static str, fn() -> Value)];

/// Makes a schema, and those that it stands on.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

vocabulary! {
    /// The group of a route.
    Tag {
        /// While people call.
        Decisions = "decisions",
        /// PBX servers.
        Nodes = "nodes",
        /// Lists and figures.
        Reading = "reading",
        /// Changes by hand.
        Administration = "administration",
        /// The page for people.
        Dashboard = "dashboard",
        /// Probes and scrapes.
        Watching = "watching",
    }
}

impl Tag {
    /// The description.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Tag::Decisions => "What nodes ask and tell while people call; role node.",
            Tag::Nodes => "What nodes say of themselves; role node.",
            Tag::Reading => {
                "Role viewer. Without `names = true` its token reads a pseudonym in place of each subject and session \
                 id: one for a name, while the daemon runs."
            }
            Tag::Administration => "Role admin.",
            Tag::Dashboard => {
                "The page for people, and what it needs. It holds no data: it asks for that as any other client."
            }
            Tag::Watching => "For machines; /metrics and /v1/prometheus/sd need role scrape or viewer.",
        }
    }
}

/// A body in one format.
#[derive(Clone, Copy)]
pub(crate) struct Media {
    pub(crate) content_type: &'static str,
    pub(crate) schema: SchemaOf,
    /// Of each line, where it comes in lines.
    pub(crate) line: Option<SchemaOf>,
    /// The description of the schema.
    pub(crate) about: &'static str,
    pub(crate) examples: Examples,
}

impl Media {
    /// A type in a format.
    pub(crate) const fn of<T: JsonSchema>(content_type: &'static str) -> Self {
        Media { content_type, schema: schema_of::<T>, line: None, about: "", examples: &[] }
    }

    /// A type in JSON.
    pub(crate) const fn json<T: JsonSchema>() -> Self {
        Media::of::<T>("application/json")
    }

    /// A type as a form.
    pub(crate) const fn form<T: JsonSchema>() -> Self {
        Media::of::<T>("application/x-www-form-urlencoded")
    }

    /// Two types of problem.
    pub(crate) const fn either<A: JsonSchema, B: JsonSchema>() -> Self {
        Media { schema: either::<A, B>, ..Media::of::<A>("application/problem+json") }
    }

    /// A line of JSON each.
    pub(crate) const fn lines<T: JsonSchema>(content_type: &'static str) -> Self {
        Media { line: Some(schema_of::<T>), ..Media::of::<String>(content_type) }
    }

    /// Adds a description.
    pub(crate) const fn about(self, about: &'static str) -> Self {
        Media { about, ..self }
    }

    /// Adds examples.
    pub(crate) const fn examples(self, examples: Examples) -> Self {
        Media { examples, ..self }
    }
}

/// An answer of a status.
#[derive(Clone, Copy)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) about: &'static str,
    /// The names of its headers.
    pub(crate) headers: &'static [&'static str],
    pub(crate) media: &'static [Media],
}

/// Holds the media of a type for good.
struct Of<T>(T);

impl<T: JsonSchema> Of<T> {
    const JSON: &'static [Media] = &[Media::json::<T>()];
}

impl Reply {
    /// 200 with a type in JSON.
    pub(crate) const fn ok<T: JsonSchema>(about: &'static str) -> Self {
        Reply::new(200, about, Of::<T>::JSON)
    }

    /// Any other.
    pub(crate) const fn new(status: u16, about: &'static str, media: &'static [Media]) -> Self {
        Reply { status, about, headers: &[], media }
    }

    /// Adds headers.
    pub(crate) const fn headers(self, headers: &'static [&'static str]) -> Self {
        Reply { headers, ..self }
    }
}

/// Of an answer that tells of something that is recorded.
pub(crate) const DURABLE: &[&str] = &["Usherd-Durability"];

/// The description of a route.
pub(crate) struct Operation {
    pub(crate) id: &'static str,
    pub(crate) tag: Tag,
    pub(crate) summary: &'static str,
    pub(crate) about: &'static str,
    /// Parameters that it reads beside those that its row knows.
    pub(crate) reads: &'static [&'static str],
    pub(crate) body: &'static [Media],
    pub(crate) needs_body: bool,
    /// Those that do not follow from its row: success, and refusals of its own.
    pub(crate) replies: &'static [Reply],
}

impl Operation {
    /// One that reads no body.
    pub(crate) const fn new(id: &'static str, tag: Tag, summary: &'static str, replies: &'static [Reply]) -> Self {
        Operation { id, tag, summary, about: "", reads: &[], body: &[], needs_body: false, replies }
    }

    /// Adds a description.
    pub(crate) const fn about(self, about: &'static str) -> Self {
        Operation { about, ..self }
    }

    /// Adds parameters that its row does not know.
    pub(crate) const fn reads(self, reads: &'static [&'static str]) -> Self {
        Operation { reads, ..self }
    }

    /// Adds the formats of its body.
    pub(crate) const fn body(self, body: &'static [Media]) -> Self {
        Operation { body, needs_body: true, ..self }
    }

    /// The same, where the body may be missing.
    pub(crate) const fn optional_body(self, body: &'static [Media]) -> Self {
        Operation { body, ..self }
    }
}

/// The schema of a type.
pub(crate) fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn either<A: JsonSchema, B: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [schema_of::<A>(generator), schema_of::<B>(generator)] })
}
