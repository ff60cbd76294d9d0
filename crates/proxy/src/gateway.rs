//! Sends requests to a gateway where a route says so (`traffic::rules::gateway`): another target,
//! another path, and other credentials. What the client asked for stays what the record says; where
//! the request went stands beside it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use traffic::rules::gateway::{
    CREDENTIAL_FIELDS, ClientCredentials, Gateway, GatewayAction, GatewayToken,
};
use traffic::rules::redact::without_secret_parameters;
use traffic::{Failure, FailureKind, Side, Stage};

use crate::admission::Login;
use crate::connection::Engine;
use crate::destination::Destination;
use crate::error;
use crate::handler::RequestEdit;

/// What becomes of a request that goes to a gateway.
pub(crate) struct Rerouted {
    pub(crate) to: Arc<Destination>,
    pub(crate) edit: RequestEdit,
    /// The gateway, as a Host field says it.
    pub(crate) authority: String,
    pub(crate) told: Told,
}

/// What is recorded of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) route: String,
    pub(crate) url: String,
    pub(crate) request_id: Option<String>,
}

/// Where a request goes in the place of its upstream; `None` if it goes where it was meant to.
pub(crate) fn reroute(
    to: &Destination,
    method: &str,
    path: &str,
    login: Option<&Login>,
    engine: &Engine,
) -> Result<Option<Rerouted>, Failure> {
    let route = match engine.gateways.find(&to.target, method, path) {
        Ok(Some(route)) => route,
        Ok(None) => return Ok(None),
        Err(error) => {
            let text = format!("{method} on {} is refused: {error}", to.target);
            let kind = FailureKind::RequestBlocked;
            return Err(error::failure(Side::Oriel, Stage::Route, kind, text));
        }
    };
    let refused = |why: String| {
        let text = format!(
            "{method} on {} is refused by the route {}: {why}",
            to.target, route.name
        );
        error::failure(Side::Oriel, Stage::Route, FailureKind::RequestBlocked, text)
    };
    let gateway = match &route.action {
        GatewayAction::Send(gateway) => gateway,
        GatewayAction::Refuse => return Err(refused("it lets none pass".to_owned())),
    };
    let asked = match gateway.client_credentials {
        ClientCredentials::Drop => without_secret_parameters(path),
        ClientCredentials::Keep => path.into(),
    };
    let path = gateway
        .url
        .path(&asked)
        .map_err(|error| refused(error.to_string()))?;
    let request_id = gateway.request_id_field.as_ref();
    let request_id = request_id.map(|field| (field, uuid::Uuid::now_v7().to_string()));
    let (remove, set) = fields(gateway, login, request_id.as_ref()).map_err(refused)?;
    let (scheme, target) = (gateway.url.scheme(), gateway.url.target().clone());
    let authority = target.authority(scheme);
    Ok(Some(Rerouted {
        told: Told {
            route: route.name.clone(),
            url: format!("{}://{authority}{path}", scheme.as_str()),
            request_id: request_id.map(|(_, id)| id),
        },
        edit: RequestEdit {
            path: Some(path),
            remove,
            set,
            ..RequestEdit::default()
        },
        authority,
        to: Destination::at_gateway(gateway, to, engine),
    }))
}

/// The fields that the client's do not pass in, and those that are ours.
type Fields = (Vec<HeaderName>, Vec<(HeaderName, HeaderValue)>);

fn fields(
    gateway: &Gateway,
    login: Option<&Login>,
    request_id: Option<&(&String, String)>,
) -> Result<Fields, String> {
    let (mut remove, mut set) = (Vec::new(), Vec::new());
    if gateway.client_credentials == ClientCredentials::Drop {
        remove.extend(CREDENTIAL_FIELDS.map(HeaderName::from_static));
    }
    let token = match &gateway.token {
        GatewayToken::None => None,
        GatewayToken::Shared { field, token } => Some((field, token.reveal().as_str())),
        GatewayToken::OfLogin { field } => {
            let login = login.ok_or("the client did not say to the proxy who it is")?;
            Some((field, login.password.reveal().as_str()))
        }
    };
    if let Some((field, token)) = token {
        let value = match field.as_str() {
            "authorization" => HeaderValue::try_from(format!("Bearer {token}")),
            _ => HeaderValue::try_from(token),
        };
        let mut value = value.map_err(|_error| "no field can carry the token".to_owned())?;
        value.set_sensitive(true);
        set.push((name(field)?, value));
    }
    if let Some((field, id)) = request_id {
        let value = HeaderValue::try_from(id).map_err(|error| error.to_string())?;
        set.push((name(field)?, value));
    }
    // What is set is not removed.
    remove.retain(|removed| set.iter().all(|(name, _)| name != removed));
    Ok((remove, set))
}

fn name(field: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(field.as_bytes()).map_err(|error| error.to_string())
}
