//! The flow file of mitmproxy: one typed netstring per flow, a dictionary of the state of the flow
//! (`mitmproxy/io/io.py` and the `get_state` of its classes; format 21, of mitmproxy 11 and 12). Formats
//! from 7 on (2019) are read: what is needed here has changed little since.

mod read;
mod write;

pub(super) use self::read::read;
pub(super) use self::write::write;
