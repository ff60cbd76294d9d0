//! Which requests go to a gateway, as the settings say it. Tokens are read from their files here, at
//! start and at every reload.

use http::HeaderName;
use proxy::frames_or_routes;
use traffic::rules::gateway::{
    CREDENTIAL_FIELDS, ClientCredentials, Gateway, GatewayAction, GatewayRoute, GatewayRoutes,
    GatewayToken, GatewayUrl, PathPattern,
};
use traffic::rules::pattern::HostPatterns;
use traffic::secret::Secret;

use crate::config::file;
use crate::config::values::{KeepOrDrop, TokenFrom};
use crate::exit::Exit;
use crate::limits::TOKEN_BYTES_MAX;
use crate::problem::Problem;
use crate::secret_file;
use crate::settings::Settings;

/// The routes, compiled.
pub(crate) fn gateways(settings: &Settings) -> Result<GatewayRoutes, Problem> {
    let routes = settings.gateway_routes.value.iter();
    let compiled = routes.map(|route| {
        compile(route, settings).map_err(|wrong| match wrong {
            Wrong::Setting(what) => {
                let what = format!("the gateway route {:?}: {what}", name_of(route));
                let origin = &settings.gateway_routes.origin;
                Problem::new("ORL0109", Exit::Usage, what)
                    .why(format!("gateway.routes is set so by: {origin}"))
                    .fix_there()
            }
            Wrong::Read(problem) => problem,
        })
    });
    compiled.collect::<Result<_, _>>().map(GatewayRoutes::new)
}

/// The hosts that routes speak of: their connections are opened, or no request would be seen.
pub(crate) fn hosts(settings: &Settings) -> impl Iterator<Item = String> {
    let routes = settings.gateway_routes.value.iter();
    routes.flat_map(|route| route.hosts.iter().cloned())
}

/// What is wrong with a route.
enum Wrong {
    Setting(String),
    Read(Problem),
}

impl From<&str> for Wrong {
    fn from(what: &str) -> Self {
        Self::Setting(what.to_owned())
    }
}

fn said(error: &dyn std::error::Error) -> Wrong {
    Wrong::Setting(error.to_string())
}

fn name_of(route: &file::GatewayRoute) -> &str {
    let first = route.hosts.first().map_or("", String::as_str);
    route.name.as_deref().unwrap_or(first)
}

fn compile(route: &file::GatewayRoute, settings: &Settings) -> Result<GatewayRoute, Wrong> {
    if route.hosts.is_empty() {
        return Err("it names no hosts".into());
    }
    let mut methods = route.methods.iter().flatten();
    if let Some(wrong) = methods.find(|method| !is_method(method)) {
        let what = format!("{wrong:?} is no method: methods are in upper case, such as \"POST\"");
        return Err(Wrong::Setting(what));
    }
    let paths = route.paths.iter().flatten();
    let paths = paths.map(|path| PathPattern::parse(path).map_err(|error| said(&error)));
    let action = match (&route.to, route.block.unwrap_or_default()) {
        (Some(to), false) => GatewayAction::Send(Box::new(gateway(to, route, settings)?)),
        (None, true) => GatewayAction::Refuse,
        (Some(_), true) => return Err("it has `to` and `block = true`".into()),
        (None, false) => return Err("it has neither `to` nor `block = true`".into()),
    };
    Ok(GatewayRoute {
        name: name_of(route).to_owned(),
        hosts: HostPatterns::parse(&route.hosts).map_err(|error| said(&error))?,
        methods: route.methods.clone().unwrap_or_default(),
        paths: paths.collect::<Result<_, _>>()?,
        action,
    })
}

/// Whether requests have such a method: methods are told apart by case (RFC 9110 section 9.1), and all
/// in use are in upper case.
fn is_method(text: &str) -> bool {
    let fits = |octet| matches!(octet, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_');
    !text.is_empty() && text.bytes().all(fits)
}

fn gateway(to: &str, route: &file::GatewayRoute, settings: &Settings) -> Result<Gateway, Wrong> {
    let provider = route.provider.as_deref();
    let token = token(route, settings)?;
    let client_credentials = match (route.client_credentials, &token) {
        (Some(KeepOrDrop::Keep), _) | (None, GatewayToken::None) => ClientCredentials::Keep,
        (Some(KeepOrDrop::Drop), _) | (None, _) => ClientCredentials::Drop,
    };
    let own = token
        .field()
        .filter(|field| CREDENTIAL_FIELDS.contains(field));
    if let (ClientCredentials::Keep, Some(own)) = (client_credentials, own) {
        let what = format!(
            "the client's {own} is to be kept and to be replaced by the token: name another token_header"
        );
        return Err(Wrong::Setting(what));
    }
    let request_id_field = route.request_id_header.as_deref();
    Ok(Gateway {
        url: GatewayUrl::parse(to, provider).map_err(|error| said(&error))?,
        token,
        client_credentials,
        request_id_field: request_id_field.map(field).transpose()?,
        direct: !route.upstream_proxy.unwrap_or(true),
    })
}

fn token(route: &file::GatewayRoute, settings: &Settings) -> Result<GatewayToken, Wrong> {
    let field = field(route.token_header.as_deref().unwrap_or("authorization"))?;
    let from = match (route.token, &route.token_file) {
        (Some(TokenFrom::Login), None) => {
            if settings.auth.value.is_none() && settings.credentials.value.is_none() {
                return Err(
                    "its token is the login of the client, and nobody has to log in: set proxy.auth"
                        .into(),
                );
            }
            return Ok(GatewayToken::OfLogin { field });
        }
        (Some(TokenFrom::None) | None, None) => {
            if route.token_header.is_some() {
                return Err("it has token_header, and no token".into());
            }
            return Ok(GatewayToken::None);
        }
        (Some(TokenFrom::File) | None, Some(path)) => path,
        (Some(TokenFrom::File), None) => {
            return Err("its token is in a file: name token_file".into());
        }
        (Some(TokenFrom::Login | TokenFrom::None), Some(_)) => {
            return Err("it has token_file, and another token besides".into());
        }
    };
    let what = "the gateway's token in";
    let text = secret_file::read(from, TOKEN_BYTES_MAX, "ORL0109", what).map_err(Wrong::Read)?;
    let token = Secret::new(text.trim().to_owned());
    if token.reveal().is_empty() {
        return Err(Wrong::Setting(format!("{} is empty", from.display())));
    }
    Ok(GatewayToken::Shared { field, token })
}

/// The name of a field that may be set, in lower case.
fn field(name: &str) -> Result<String, Wrong> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_error| Wrong::Setting(format!("{name:?} is no name of a field")))?;
    match frames_or_routes(&parsed) {
        true => Err(Wrong::Setting(format!(
            "{name} frames or routes messages; take another field"
        ))),
        false => Ok(parsed.as_str().to_owned()),
    }
}
