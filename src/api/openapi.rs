//! The published `OpenAPI` 3.1 document, made from the handlers and their types.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Method, header::CONTENT_TYPE};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder,
    path::Operation,
    response::Response as ResponseObject,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

use super::{
    AppState,
    calls::{self, Access, Call, MetricsAt},
    problem, webhooks,
};
use crate::domain::scope::Scope;

/// What the security scheme is called in the document.
const SCHEME: &str = "api_key";

/// Answers that every call under `/v1` can give.
const GENERAL: [(&str, &str); 3] = [
    ("401", "`unauthorized`: the API key is missing or wrong."),
    ("429", "`rate_limited`: the account asks more often than it may; see `Retry-After`."),
    ("503", "`store_unavailable`, `store_full` or `busy`: try again; see `Retry-After`."),
];

/// The calls that are in the document, and the document.
pub(super) fn routes(metrics_at: MetricsAt) -> (Router<AppState>, OpenApi) {
    let (router, mut document) = calls::described(metrics_at).split_for_parts();
    webhooks::describe(&mut document);
    complete(&mut document);
    (router, document)
}

/// The `OpenAPI` document as JSON.
#[must_use]
pub fn openapi_json() -> String {
    rendered(&routes(MetricsAt::Api).1)
}

/// The document as JSON.
pub(super) fn rendered(document: &OpenApi) -> String {
    // It is made of strings and maps of strings: it always renders.
    document.to_pretty_json().unwrap_or_default()
}

/// Read this document
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operation",
    responses((status = 200, description = "The document.", body = serde_json::Value))
)]
pub(super) async fn published(State(app): State<AppState>) -> Response {
    ([(CONTENT_TYPE, "application/json")], app.openapi.clone()).into_response()
}

/// The document without its calls.
pub(super) fn empty() -> OpenApi {
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
        .description(Some(
            "An API key. Each call names the scope that the key must have: `submit`, `read` or \
             `admin`. No key is needed where no account is configured.",
        ))
        .build();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            if let Some(Access::Key(scope)) = Call::of(&method, path).map(|call| call.access) {
                guard(operation, scope);
            }
            answer(operation, "default", "Anything else is a problem too.");
        }
    }
}

/// Says what a key must have for this.
fn guard(operation: &mut Operation, scope: Scope) {
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, [scope.word()])]);
    for (status, description) in GENERAL {
        answer(operation, status, description);
    }
    answer(operation, "403", &format!("`forbidden`: the API key lacks the scope `{scope}`."));
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
    use crate::api::calls::CALLS;

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
            }
        }
        assert_eq!(operations, 33);
        assert_eq!(document["components"]["securitySchemes"][SCHEME]["scheme"], "bearer");
    }

    #[test]
    fn every_operation_says_who_may_call_it_as_the_table_of_calls_does() {
        let document: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let method = method.to_ascii_uppercase().parse().unwrap();
                let call = Call::of(&method, path);
                let call = call.unwrap_or_else(|| panic!("{method} {path} is not in the table"));
                let security = match call.access {
                    Access::Open | Access::Signed => serde_json::Value::Null,
                    Access::Key(scope) => serde_json::json!([{SCHEME: [scope.word()]}]),
                };
                assert_eq!(operation["security"], security, "{method} {path}");
                let refuses = !operation["responses"]["403"].is_null();
                assert_eq!(refuses, !security.is_null(), "{method} {path}");
            }
        }
        let unbuilt = ["/docs", "/"];
        for call in &CALLS {
            let method = call.method.as_str().to_ascii_lowercase();
            let is_described = document["paths"][call.path][method].is_object();
            assert_ne!(is_described, unbuilt.contains(&call.path), "{call:?}");
        }
    }

    #[test]
    fn every_callback_is_described_with_its_headers_and_body() {
        let document: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
        let webhooks = document["webhooks"].as_object().unwrap();
        let names: Vec<_> = webhooks.keys().map(String::as_str).collect();
        let expected = [
            "batch.amended",
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
