//! `oriel ca install` and `oriel ca uninstall`: says exactly what is to be touched, asks, and does it.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::settings;
use crate::args::{CaInstall, CaUninstall, ChangeFlags, TrustStore};
use crate::authority::load_for_use;
use crate::clock::now;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::limits::TRUST_LOCK_WAIT;
use crate::output::{print, print_json, say_line};
use crate::problem::Problem;
use crate::question;
use crate::session_authority;
use crate::settings::{Purpose, Settings};
use crate::trust_store::change::Undone;
use crate::trust_store::elsewhere::{Commands, Platform, commands};
use crate::trust_store::journal::{Entry, Journal, Keeper};
use crate::trust_store::known::Known;
use crate::trust_store::passwords::{Locked, Passwords, problem};
use crate::trust_store::root::Root;
use crate::trust_store::{self, Certificate, Plan, Store};

pub(super) fn install(context: &Context, arguments: &CaInstall) -> Result<Exit, Problem> {
    let settings = settings(context, &arguments.authority)?;
    let data = settings.data_folder.value.as_path();
    let authority = load_for_use(&settings, now())?;
    if authority.common_name().as_deref() == Some(session_authority::NAME) {
        let what = "the authority of one run is not installed";
        return Err(Problem::new("ORL0313", Exit::Usage, what)
            .why("it ends with its run, and what the run starts trusts it already"));
    }
    let certificate = Certificate::of(&authority, &context.paths.home);
    let root = root(arguments.change.root.as_deref())?;
    let stores = stores(arguments.store, &root)?;
    if let Some(platform) = arguments.print_for {
        return tell(platform, &stores, &certificate);
    }
    let passwords = passwords(&arguments.change)?;
    let mut plan = trust_store::plan(context, &root, &stores, &certificate, &passwords, data)?;
    if let Some(own) = authority.links().first().filter(|own| !own.self_signed) {
        let note = "some programs built on OpenSSL trust it only beside that certificate";
        plan.notes
            .push(format!("{} signed this one; {note}", own.issuer));
    }
    let journal = Journal::load(data)?;
    plan.steps
        .retain(|(_, change)| !journal.has_run(&root, change));
    let left_out = problem("install", &plan.locked);
    if plan.steps.is_empty()
        && let Some(problem) = left_out
    {
        return Err(problem);
    }
    if arguments.change.dry_run || plan.steps.is_empty() {
        show_plan(
            context,
            &root,
            &plan,
            &certificate,
            arguments.change.dry_run,
        )?;
        return Ok(Exit::Success);
    }
    let changes = plan.steps.iter().map(|(_, change)| change);
    refuse_obstacles(trust_store::obstacles(&root, changes), "install", data)?;
    let text = plan_text(&root, &plan, &certificate);
    if !confirmed(context, arguments.change.yes, &text)? {
        say_line("nothing was changed");
        return Ok(Exit::Negative);
    }
    let mut journal = Journal::open(data, TRUST_LOCK_WAIT)?;
    // Another oriel may have done some of it while this one asked, or waited.
    plan.steps.retain(|(_, change)| {
        !journal.has_run(&root, change) && !change.is_done(&root, &passwords)
    });
    let made = plan.clone();
    trust_store::install(&root, plan, &certificate, &passwords, &mut journal)?;
    match context.json() {
        true => print_json(&plan_document(&root, &made, &certificate, false))?,
        false => print(&format!(
            "{} is trusted now; programs that run see it when they start again\n\
             undo   oriel ca uninstall{}\n",
            escape_line(&certificate.subject),
            root_flag(&root),
        ))?,
    }
    left_out.map_or(Ok(Exit::Success), Err)
}

pub(super) fn uninstall(context: &Context, arguments: &CaUninstall) -> Result<Exit, Problem> {
    let settings: Settings = context.settings(Purpose::Serve, arguments.data.layer())?;
    let data = settings.data_folder.value.as_path();
    let root = root(arguments.change.root.as_deref())?;
    let passwords = passwords(&arguments.change)?;
    let wanted = |entry: &Entry| {
        entry.root == root.name()
            && arguments
                .store
                .is_none_or(|store| store.stores().contains(&entry.store))
    };
    let known = Known {
        context,
        root: &root,
        data_folder: data,
    };
    let journal = Journal::load(data)?;
    let chosen = journal.entries.iter().filter(|entry| wanted(entry));
    let (chosen, others): (Vec<_>, Vec<_>) = chosen.cloned().partition(|entry| known.has(entry));
    let foreign = foreign(&journal, &others);
    if let (true, Some(problem)) = (chosen.is_empty(), &foreign) {
        return Err(problem.clone());
    }
    if arguments.change.dry_run || chosen.is_empty() {
        let done: Vec<_> = chosen
            .iter()
            .map(|entry| (entry, "would be undone"))
            .collect();
        show_undone(context, &root, &done, arguments.change.dry_run)?;
        return foreign.map_or(Ok(Exit::Success), Err);
    }
    let changes = chosen.iter().map(|entry| &entry.change);
    let mut obstacles = trust_store::obstacles(&root, changes);
    let is_roots = |entry: &Entry| entry.origin.keeper == Keeper::Root;
    if chosen.iter().any(is_roots) && !rustix::process::geteuid().is_root() {
        obstacles.push("root has made these changes".to_owned());
    }
    refuse_obstacles(obstacles, "uninstall", data)?;
    let mut text = format!(
        "This takes oriel's certificate out of {}:\n",
        root.name().display()
    );
    for entry in &chosen {
        let line = escape_line(&entry.change.undo_description()).into_owned();
        let _infallible = writeln!(text, "  {:8} {line}", entry.store.name());
    }
    if !confirmed(context, arguments.change.yes, &text)? {
        say_line("nothing was changed");
        return Ok(Exit::Negative);
    }
    let mut journal = Journal::open(data, TRUST_LOCK_WAIT)?;
    // What another oriel wrote down meanwhile was not shown, and what it took out is gone.
    let (chosen, others) = std::mem::take(&mut journal.entries)
        .into_iter()
        .partition(|entry| chosen.contains(entry));
    let (done, left) = trust_store::undo_all(&root, &passwords, chosen);
    journal.entries = others;
    let locked: Vec<_> = left
        .iter()
        .filter_map(|(entry, _)| Locked::find(entry.store, &entry.change, &root, &passwords))
        .collect();
    let first = left.first().map(|(entry, error)| {
        let what = format!("could not {}", entry.change.undo_description());
        Problem::new("ORL0315", Exit::Storage, what)
            .why(error.to_string())
            .fix("oriel ca uninstall      tries again what is left")
    });
    let failed = problem("uninstall", &locked).or(first).or(foreign);
    journal
        .entries
        .extend(left.into_iter().map(|(entry, _error)| entry));
    journal.save()?;
    let done: Vec<_> = done
        .iter()
        .map(|(entry, undone)| (entry, word(*undone)))
        .collect();
    show_undone(context, &root, &done, false)?;
    failed.map_or(Ok(Exit::Success), Err)
}

/// What is said of entries that are not of what oriel does. They are left as they are: whoever wrote
/// them may want root to do something else.
fn foreign(journal: &Journal, entries: &[Entry]) -> Option<Problem> {
    let mut files: Vec<&Path> = journal.strange().collect();
    for file in entries.iter().filter_map(|entry| journal.file_of(entry)) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    let file = files.first()?.display();
    let mut why =
        "oriel makes no such change, or not for that certificate or from here; it was not \
                   undone"
            .to_owned();
    for entry in entries {
        let does = entry.change.undo_description();
        let _infallible = write!(why, "\n{}: {}", entry.store.name(), escape_line(&does));
    }
    let what = format!("{file} lists what oriel did not write there");
    Some(
        Problem::new("ORL0318", Exit::Storage, what)
            .why(why)
            .fix(format!(
                "look at what it says, undo it by hand if it is yours, and remove {file}"
            )),
    )
}

fn passwords(flags: &ChangeFlags) -> Result<Passwords, Problem> {
    let (java, nss) = (&flags.java_password_file, &flags.nss_password_file);
    Passwords::of_files(java.clone(), nss.clone())
}

fn root(folder: Option<&Path>) -> Result<Root, Problem> {
    let Some(folder) = folder else {
        return Ok(Root::Machine);
    };
    Root::folder(folder).map_err(|error| {
        let what = format!("{} is no root of a file system", folder.display());
        Problem::new("ORL0313", Exit::Usage, what).why(error.to_string())
    })
}

/// The stores that are meant: by default those of this user, and in a folder the system's.
fn stores(asked: Option<TrustStore>, root: &Root) -> Result<Vec<Store>, Problem> {
    match (asked, root) {
        (Some(TrustStore::User | TrustStore::Firefox), Root::Folder(_)) => {
            Err(Problem::new("ORL0313", Exit::Usage, "--root has no users")
                .why("only what all programs of a container trust can be changed from outside")
                .fix("--store system, --store java or --store all"))
        }
        (Some(TrustStore::All), Root::Folder(_)) => Ok(vec![Store::System, Store::Java]),
        (None, Root::Folder(_)) => Ok(vec![Store::System]),
        (None, Root::Machine) => Ok(vec![Store::User]),
        (Some(asked), _) => Ok(asked.stores().to_vec()),
    }
}

impl TrustStore {
    fn stores(self) -> &'static [Store] {
        match self {
            Self::User => &[Store::User],
            Self::System => &[Store::System],
            Self::Firefox => &[Store::Firefox],
            Self::Java => &[Store::Java],
            Self::All => &[Store::User, Store::System, Store::Firefox, Store::Java],
        }
    }
}

/// Tells the commands of another system.
fn tell(platform: Platform, stores: &[Store], certificate: &Certificate) -> Result<Exit, Problem> {
    let file = Path::new("oriel-ca.crt");
    let mut text = String::from("oriel ca export --format der -o oriel-ca.crt\n");
    for store in stores {
        let Some(Commands { install, uninstall }) = commands(platform, *store, file, certificate)
        else {
            let what = format!("there is no command for the {} store", store.name());
            return Err(
                Problem::new("ORL0313", Exit::Usage, what).fix("--store user or --store system")
            );
        };
        let (install, uninstall) = (quoted(&install), quoted(&uninstall));
        let _infallible = writeln!(text, "{install}\n# undo: {uninstall}");
    }
    print(&text)?;
    Ok(Exit::Success)
}

fn quoted(words: &[String]) -> String {
    let word = |word: &String| match word.contains([' ', '\'']) {
        true => format!("\"{word}\""),
        false => word.clone(),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Says what is missing before anything is changed.
fn refuse_obstacles(obstacles: Vec<String>, verb: &str, data: &Path) -> Result<(), Problem> {
    if obstacles.is_empty() {
        return Ok(());
    }
    let data = data.display();
    Err(Problem::new(
        "ORL0314",
        Exit::Permission,
        "not allowed to change what programs trust",
    )
    .why(format!("{}; nothing was changed", obstacles.join("; ")))
    .fix(format!(
        "sudo oriel ca {verb} --data {data} …      with the same flags"
    ))
    .fix("oriel run needs none of this: what it starts trusts oriel already"))
}

/// Shows what is about to be done, and waits for a yes.
fn confirmed(context: &Context, yes: bool, text: &str) -> Result<bool, Problem> {
    let changes = ("ORL0313", "what programs trust");
    let confirmed = question::confirmed(context, yes, text, changes);
    confirmed.map_err(|problem| match problem.exit {
        Exit::Usage => problem.fix("--dry-run    shows it alone"),
        _ => problem,
    })
}

fn plan_text(root: &Root, plan: &Plan, certificate: &Certificate) -> String {
    let mut text = format!(
        "This has programs trust {}: whoever has its key can show them any site.\n\
         sha256 {}\n",
        escape_line(&certificate.subject),
        certificate.fingerprint(),
    );
    if let Root::Folder(folder) = root {
        let _infallible = writeln!(text, "in {}", escape_line(&folder.display().to_string()));
    }
    for (store, change) in &plan.steps {
        let line = change.description();
        let _infallible = writeln!(text, "  {:8} {}", store.name(), escape_line(&line));
    }
    for locked in &plan.locked {
        let line = format!("not: {}: {}", locked.change.description(), locked.why);
        let _infallible = writeln!(text, "  {:8} {}", locked.store.name(), escape_line(&line));
    }
    for note in &plan.notes {
        let _infallible = writeln!(text, "  note     {}", escape_line(note));
    }
    let _infallible = writeln!(
        text,
        "`oriel run` needs none of it. Undo: oriel ca uninstall{}",
        root_flag(root)
    );
    text
}

fn root_flag(root: &Root) -> String {
    match root {
        Root::Machine => String::new(),
        Root::Folder(folder) => format!(" --root {}", folder.display()),
    }
}

fn show_plan(
    context: &Context,
    root: &Root,
    plan: &Plan,
    certificate: &Certificate,
    dry_run: bool,
) -> Result<(), Problem> {
    match (context.json(), plan.steps.is_empty()) {
        (true, _) => print_json(&plan_document(root, plan, certificate, dry_run)),
        (false, true) => {
            let notes: String = plan.notes.iter().map(|note| format!("{note}\n")).collect();
            let subject = escape_line(&certificate.subject);
            print(&format!("nothing to do for {subject}\n{notes}"))
        }
        (false, false) => print(&plan_text(root, plan, certificate)),
    }
}

fn plan_document(root: &Root, plan: &Plan, certificate: &Certificate, dry_run: bool) -> Value {
    let changes = plan.steps.iter().map(
        |(store, change)| json!({"store": store, "does": change.description(), "change": change}),
    );
    let left_out = plan.locked.iter().map(
        |locked| json!({"store": locked.store, "does": locked.change.description(), "why": locked.why}),
    );
    json!({
        "schema": "oriel.ca.install/1",
        "dry_run": dry_run,
        "root": root.name(),
        "subject": certificate.subject,
        "sha256": certificate.fingerprint(),
        "changes": changes.collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
        "notes": plan.notes,
    })
}

fn word(undone: Undone) -> &'static str {
    match undone {
        Undone::Removed => "undone",
        Undone::Gone => "was gone already",
        Undone::Kept => "left, as somebody else has changed it",
    }
}

fn show_undone(
    context: &Context,
    root: &Root,
    done: &[(&Entry, &str)],
    dry_run: bool,
) -> Result<(), Problem> {
    if context.json() {
        let changes = done.iter().map(|(entry, result)| {
            let does = entry.change.undo_description();
            json!({"store": entry.store, "does": does, "result": result, "change": entry.change})
        });
        return print_json(&json!({
            "schema": "oriel.ca.uninstall/1",
            "dry_run": dry_run,
            "root": root.name(),
            "changes": changes.collect::<Vec<_>>(),
        }));
    }
    if done.is_empty() {
        return print("oriel has installed nothing here\n");
    }
    let mut text = String::new();
    for (entry, result) in done {
        let does = entry.change.undo_description();
        let _infallible = writeln!(
            text,
            "{:8} {}: {result}",
            entry.store.name(),
            escape_line(&does)
        );
    }
    print(&text)
}
