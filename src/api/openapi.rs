//! The published `OpenAPI` 3.1 document, made from the handlers and their types.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header::CONTENT_TYPE;
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder,
    path::Operation,
    response::Response as ResponseObject,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    AppState, batches, callbacks, create, events, health, messages, metrics, pings, problem,
    providers, replays, watch, webhooks, well_known,
};

/// What the security scheme is called in the document.
const SCHEME: &str = "api_key";

/// Answers that every call under `/v1` can give.
const GENERAL: [(&str, &str); 3] = [
    ("401", "`unauthorized`: the API key is missing or wrong."),
    ("429", "`rate_limited`: the account asks more often than it may; see `Retry-After`."),
    ("503", "`store_unavailable`, `store_full` or `busy`: try again; see `Retry-After`."),
];

/// The calls that are in the document, and the document.
pub(super) fn routes() -> (Router<AppState>, OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(empty())
        .routes(routes!(create::submit, batches::list))
        .routes(routes!(batches::get, batches::amend, batches::erase))
        .routes(routes!(watch::events))
        .routes(routes!(batches::cancel))
        .routes(routes!(batches::pause))
        .routes(routes!(batches::resume))
        .routes(routes!(create::retry))
        .routes(routes!(messages::list))
        .routes(routes!(messages::get))
        .routes(routes!(callbacks::attempts))
        .routes(routes!(replays::replay))
        .routes(routes!(callbacks::list))
        .routes(routes!(replays::replay_many))
        .routes(routes!(pings::test))
        .routes(routes!(events::feed))
        .routes(routes!(providers::list))
        .routes(routes!(providers::pause))
        .routes(routes!(providers::resume))
        .routes(routes!(well_known::webhook_keys))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::scrape))
        .routes(routes!(published))
        .split_for_parts();
    webhooks::describe(&mut document);
    complete(&mut document);
    (router, document)
}

/// The `OpenAPI` document as JSON.
#[must_use]
pub fn openapi_json() -> String {
    // The document is made of strings and maps of strings: it always renders.
    routes().1.to_pretty_json().unwrap_or_default()
}

/// Read this document
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operation",
    responses((status = 200, description = "The document.", body = serde_json::Value))
)]
pub(super) async fn published(State(app): State<AppState>) -> Response {
    ([(CONTENT_TYPE, "application/json")], app.openapi.clone()).into_response()
}

fn empty() -> OpenApi {
    let license = LicenseBuilder::new()
        .name("MIT OR Apache-2.0")
        .identifier(Some("MIT OR Apache-2.0"))
        .build();
    let info = InfoBuilder::new()
        .title("Ringback")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Self-hosted, callback-based bulk message dispatcher: submit a batch, get one signed \
             callback when its last message is final.",
        ))
        .license(Some(license))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds what all calls have in common.
fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_with(Components::new);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key. None is needed where no account is configured."))
        .build();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer));
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            if path.starts_with("/v1/") {
                guard(operation);
            }
            answer(operation, "default", "Anything else is a problem too.");
        }
    }
}

fn guard(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, [""; 0])]);
    for (status, description) in GENERAL {
        answer(operation, status, description);
    }
}

fn answer(operation: &mut Operation, status: &str, description: &str) {
    let answers = &mut operation.responses.responses;
    answers.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem_response(description)));
}

fn problem_response(description: &str) -> ResponseObject {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content(problem::MEDIA_TYPE, body).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_summary_answers_and_the_problem_schema() {
        let document: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut operations = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                operations += 1;
                assert!(operation["summary"].is_string(), "{method} {path}");
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
                assert!(answers.contains_key("default"), "{method} {path}");
                assert_eq!(operation["security"].is_array(), path.starts_with("/v1/"), "{path}");
            }
        }
        assert_eq!(operations, 26);
        assert_eq!(document["components"]["securitySchemes"][SCHEME]["scheme"], "bearer");
    }

    #[test]
    fn every_callback_is_described_with_its_headers_and_body() {
        let document: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
        let webhooks = document["webhooks"].as_object().unwrap();
        let names: Vec<_> = webhooks.keys().map(String::as_str).collect();
        let expected = [
            "batch.completed",
            "batch.dispatched",
            "batch.progress",
            "message.failed",
            "webhook.ping",
        ];
        assert_eq!(names, expected);
        for (name, item) in webhooks {
            let parameters = item["post"]["parameters"].as_array().unwrap();
            let headers: Vec<_> = parameters.iter().map(|header| &header["name"]).collect();
            assert_eq!(headers, ["webhook-id", "webhook-timestamp", "webhook-signature"], "{name}");
            let body = &item["post"]["requestBody"]["content"]["application/json"];
            assert!(body["schema"]["$ref"].is_string(), "{name}");
            assert!(item["post"]["security"].is_null(), "{name}: the key is the API's");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = openapi_json();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        for name in ["Batch", "Message", "Problem", "SubmitBatch", "Recipient", "Attempt"] {
            assert!(schemas.contains_key(name), "{name} is missing in {:?}", schemas.keys());
        }
    }
}
