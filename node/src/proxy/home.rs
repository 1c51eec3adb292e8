//! The start page: how the node is, a field for a key, a form to insert a file.

use super::{
    guard::Token,
    html::{self, Escaped},
    status::{NodeStatus, duration, size},
};

/// Field of the form's secret. Fields are sent in the order of the page, and the file is read as it comes: it stands last.
pub(super) const TOKEN_FIELD: &str = "token";
/// Field of the choice of a random key.
pub(super) const UNPREDICTABLE_FIELD: &str = "unpredictable";
/// Field of the file.
pub(super) const FILE_FIELD: &str = "file";

pub(super) fn page(status: &NodeStatus, token: &Token) -> String {
    let connected = match status.links {
        0 => {
            "<p>Not connected yet: this node has no link to another one, so nothing can be fetched or inserted.</p>\n"
        }
        _ => "",
    };
    let problems: String = status
        .problems
        .iter()
        .map(|problem| format!("<p><strong>Problem:</strong> {}</p>\n", Escaped(problem)))
        .collect();
    let body = format!(
        "<section>\n<h2>Open a key</h2>\n\
         <form action=\"/\" method=\"get\">\n\
         <label>Key <input type=\"text\" name=\"key\" required maxlength=\"4096\" autocomplete=\"off\" spellcheck=\"false\" \
         placeholder=\"CHK@…, SSK@…, USK@… or KSK@…\"></label>\n\
         <button>Open</button>\n</form>\n</section>\n\
         <section>\n<h2>Insert a file</h2>\n\
         <form action=\"/\" method=\"post\" enctype=\"multipart/form-data\">\n\
         <input type=\"hidden\" name=\"{TOKEN_FIELD}\" value=\"{token}\">\n\
         <label title=\"The same file then gets another key each time\"><input type=\"checkbox\" name=\"{UNPREDICTABLE_FIELD}\" \
         value=\"1\"> Random key: nobody who has the same file can find out that it was inserted</label>\n\
         <label>File <input type=\"file\" name=\"{FILE_FIELD}\" required></label>\n\
         <button>Insert</button>\n\
         <p class=\"dim\">The answer with the key comes when the network holds the file; keep the page open. Whoever has the key can \
         read it, and nobody can take it back.</p>\n\
         </form>\n</section>\n\
         <section>\n<h2>This node</h2>\n{problems}{connected}<dl>\n\
         <dt>Links</dt><dd>{links}</dd>\n\
         <dt>Known nodes</dt><dd>{known}</dd>\n\
         <dt>Store</dt><dd>{stored} of {capacity}</dd>\n\
         <dt>Running for</dt><dd>{uptime}</dd>\n\
         <dt>Network</dt><dd>{network}</dd>\n\
         <dt>Version</dt><dd>{version}</dd>\n\
         </dl>\n</section>\n",
        token = Escaped(token.reveal()),
        links = status.links,
        known = status.known_nodes,
        stored = size(status.stored_bytes),
        capacity = size(status.capacity_bytes),
        uptime = duration(status.uptime),
        network = Escaped(&status.network),
        version = Escaped(&status.version),
    );
    html::page("Start", &body)
}
