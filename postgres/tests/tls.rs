//! TLS, passwords and several hosts, against servers as they are set up: what is accepted, and what is refused with which
//! sentence.

#![allow(clippy::disallowed_types, reason = "it runs openssl")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Cluster, Node, until};

fn run(program: &str, words: &[&str]) {
    let done = Command::new(program).args(words).output().expect("run");
    assert!(
        done.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Roots and servers' certificates, by names of files here.
struct Authority {
    dir: PathBuf,
}

impl Authority {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir(&dir).expect("made");
        let authority = Authority { dir };
        for root in ["root", "other"] {
            authority.request(root, "req -x509 -days 2 -addext keyUsage=critical,keyCertSign");
        }
        authority
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// A key, and what `openssl` makes of it.
    fn request(&self, name: &str, how: &str) {
        let (key, out) = (self.at(&format!("{name}.key")), self.at(&format!("{name}.pem")));
        let mut words: Vec<&str> = how.split(' ').collect();
        let subject = format!("/CN={name}");
        words.extend("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split(' '));
        words.extend(["-keyout", &key, "-out", &out, "-subj", &subject]);
        run("openssl", &words);
    }

    /// A certificate of that issuer, as if it were made `when` (of faketime), for a day.
    fn issue(&self, name: &str, issuer: &str, extensions: &str, when: &str) {
        self.request(name, "req -new");
        let file = |end: &str| self.at(&format!("{name}.{end}"));
        fs::rename(file("pem"), file("csr")).expect("renamed");
        fs::write(file("ext"), extensions).expect("written");
        let (ca, ca_key) = (self.at(&format!("{issuer}.pem")), self.at(&format!("{issuer}.key")));
        let words = format!(
            "-f {when} openssl x509 -req -days 1 -set_serial 7 -in {} -extfile {} -CA {ca} -CAkey {ca_key} -out {}",
            file("csr"),
            file("ext"),
            file("pem")
        );
        run("faketime", &words.split(' ').collect::<Vec<_>>());
    }
}

/// A server that is reached over the network of this host alone: at an address that no other test has.
fn listening(cluster: &Cluster) -> String {
    let pid = std::process::id();
    let third = cluster.dir.to_str().and_then(|dir| dir.rsplit('-').next()?.parse::<u32>().ok());
    let number = third.expect("numbered");
    let address =
        format!("127.{}.{}.{}", 100 + (pid >> 16) % 100, (pid >> 8) & 255, (pid & 255).max(1));
    let address = match number {
        0 => address,
        number => format!("127.{}.{}.{}", 200 + number, (pid >> 8) & 255, (pid & 255).max(1)),
    };
    cluster.sql("d", "postgres", &format!("ALTER SYSTEM SET listen_addresses = '{address}'"));
    cluster.stop();
    cluster.start();
    address
}

/// The server has this certificate from now on, or none.
fn serves_with(cluster: &Cluster, authority: &Authority, name: Option<&str>) {
    let set = |name: &str, value: &str| {
        cluster.sql("d", "postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"))
    };
    if let Some(name) = name {
        let key = cluster.dir.join(format!("{name}.key"));
        fs::copy(authority.at(&format!("{name}.key")), &key).expect("copied");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
        // Of whoever the server runs as.
        let reference = format!("--reference={}", cluster.dir.join("data").display());
        run("chown", &[&reference, &key.display().to_string()]);
        set("ssl_cert_file", &authority.at(&format!("{name}.pem")));
        set("ssl_key_file", &key.display().to_string());
    }
    set("ssl", if name.is_some() { "on" } else { "off" });
    cluster.sql("d", "postgres", "SELECT pg_reload_conf()");
    until("it is set", || {
        let of = name.map_or("ssl".to_owned(), |name| format!("{name}.pem"));
        let shown = cluster.sql(
            "d",
            "postgres",
            "SELECT current_setting('ssl_cert_file') || ' ssl ' || current_setting('ssl')",
        );
        shown.contains(&of) && shown.ends_with(if name.is_some() { "on" } else { "off" })
    });
    // So that nothing of the one before is asked.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'serve'";
    cluster.sql("d", "postgres", end);
}

/// Exit code of `check`, and what it said.
fn check(cluster: &Cluster, url: &str, settings: &[(&str, &str)]) -> (i32, String) {
    let mut command = cluster.command("serve", &["check"]);
    let done =
        command.env("OPENEXEC_DB_URL", url).envs(settings.iter().copied()).output().expect("run");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.code().expect("a code"), said)
}

#[test]
fn a_server_is_who_its_certificate_says_or_nobody() {
    let cluster = Cluster::new();
    let address = listening(&cluster);
    let authority = Authority::new(cluster.dir.join("keys"));
    let own = format!("subjectAltName=IP:{address}");
    let ca = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign".to_owned();
    for (name, issuer, extensions, when) in [
        ("right", "root", &own, "+0"),
        ("between", "root", &ca, "+0"),
        ("below", "between", &own, "+0"),
        ("unknown", "other", &own, "+0"),
        ("expired", "root", &own, "-3d"),
        ("early", "root", &own, "+3d"),
        ("elsewhere", "root", &"subjectAltName=IP:127.0.0.1".to_owned(), "+0"),
        ("named", "root", &format!("subjectAltName=DNS:{address}"), "+0"),
        ("common", "root", &"basicConstraints=CA:false".to_owned(), "+0"),
        ("client", "root", &format!("{own}\nextendedKeyUsage=clientAuth"), "+0"),
    ] {
        authority.issue(name, issuer, extensions, when);
    }
    authority.request(
        "own",
        &format!("req -x509 -days 2 -addext basicConstraints=CA:false -addext {own}"),
    );
    let read = |name: &str| fs::read_to_string(authority.at(&format!("{name}.pem"))).expect("read");
    let join = |name: &str, of: [&str; 2]| {
        fs::write(authority.at(name), of.map(read).concat()).expect("written");
    };
    join("both.pem", ["other", "root"]);
    authority.request("chained", "req -x509 -days 2");
    fs::copy(authority.at("below.key"), authority.at("chained.key")).expect("copied");
    join("chained.pem", ["below", "between"]);
    fs::write(authority.at("empty.pem"), "").expect("written");
    fs::write(
        authority.at("no.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .expect("written");
    let unfit = "invalid peer certificate: ";
    let wrong_name = format!("{unfit}certificate not valid for name \"{address}\"");
    let unknown = format!("{unfit}UnknownIssuer");
    let cases = [
        (Some("right"), "root.pem", 0, ""),
        (Some("right"), "both.pem", 0, ""),
        (Some("chained"), "root.pem", 0, ""),
        (Some("own"), "own.pem", 0, ""),
        (Some("right"), "other.pem", 74, unknown.as_str()),
        (Some("below"), "root.pem", 74, &unknown),
        (Some("unknown"), "root.pem", 74, &unknown),
        (Some("own"), "root.pem", 74, &unknown),
        (Some("root"), "other.pem", 74, unfit),
        (Some("expired"), "root.pem", 74, "certificate expired"),
        (Some("early"), "root.pem", 74, "certificate not valid yet"),
        (Some("elsewhere"), "root.pem", 74, &wrong_name),
        (Some("named"), "root.pem", 74, &wrong_name),
        (Some("common"), "root.pem", 74, &wrong_name),
        (Some("client"), "root.pem", 74, unfit),
        (None, "root.pem", 74, "server does not support TLS"),
        (Some("right"), "absent.pem", 78, "absent.pem"),
        (Some("right"), "empty.pem", 78, "holds no certificate"),
        (Some("right"), "root.key", 78, "holds no certificate"),
        (Some("right"), "no.pem", 78, "no.pem"),
    ];
    let mut served = Some("");
    for (certificate, roots, code, says) in cases {
        if served != certificate {
            serves_with(&cluster, &authority, certificate);
            served = certificate;
        }
        let roots = authority.at(roots);
        let mode = if code == 0 { "&sslmode=verify-full" } else { "" };
        let url = format!("postgresql://serve@{address}/d?sslrootcert={roots}{mode}");
        let (found, said) = check(&cluster, &url, &[]);
        assert!(found == code && said.contains(says), "{certificate:?} {roots}: {found} {said}");
    }
    // It serves over it, too; and what the server does not verify, it does not see.
    serves_with(&cluster, &authority, Some("right"));
    let url = format!("postgresql://serve@{address}/d?sslrootcert={}", authority.at("root.pem"));
    let node = Node::start_ready(&cluster, "a", &[("OPENEXEC_DB_URL", &url)]);
    node.insist("{\"action\":\"echo\",\"nonce\":\"n\",\"payload\":{}}");
    let is_ssl = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'serve'";
    assert_eq!(cluster.sql("d", "postgres", is_ssl), "t");
    // A certificate that is none any more: the node stands by, says why, and goes on once it is.
    serves_with(&cluster, &authority, Some("expired"));
    until("it says why", || node.log().contains("certificate expired"));
    until("it is not ready", || !node.is_ready());
    serves_with(&cluster, &authority, Some("right"));
    node.insist("{\"action\":\"echo\",\"nonce\":\"m\",\"payload\":{}}");
}

/// Of a password that the server asks for, by SCRAM; each of the files that may hold it.
#[test]
fn a_password_is_of_one_file_that_only_its_owner_reads() {
    let cluster = Cluster::new();
    let address = listening(&cluster);
    cluster.sql("d", "postgres", "ALTER ROLE serve PASSWORD 'pa:ss\\word'");
    let hba = cluster.dir.join("data/pg_hba.conf");
    let rules = "local all all trust\nhost all all 127.0.0.0/8 scram-sha-256\n";
    fs::write(&hba, rules).expect("written");
    cluster.sql("d", "postgres", "SELECT pg_reload_conf()");
    let url = format!("postgresql://serve@{address}/d");
    let file = |text: &str, mode: u32| {
        let path = cluster.dir.join("password");
        let _ = fs::remove_file(&path);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        path.display().to_string()
    };
    let (own, table) = ("OPENEXEC_DB_PASSWORD_FILE", "PGPASSFILE");
    let right = "pa:ss\\word\n";
    let line = format!("{address}:5432:d:serve:pa\\:ss\\\\word\n");
    let others = format!("{address}:5432:d:other:x\n{address}:5433:d:serve:x\n");
    for (setting, text, mode, code, says) in [
        (own, right, 0o600, 0, ""),
        (own, right.trim_end(), 0o400, 0, ""),
        (table, &line, 0o600, 0, ""),
        (table, &format!("# of us\n{others}*:*:*:serve:pa\\:ss\\\\word"), 0o600, 0, ""),
        (own, "wrong\n", 0o600, 78, "password authentication failed"),
        (own, "pa:ss\\word\n\n", 0o600, 78, "holds no password of one line"),
        (own, "", 0o600, 78, "holds no password of one line"),
        (own, "\n", 0o600, 78, "holds no password of one line"),
        (own, right, 0o440, 0, ""),
        (own, right, 0o660, 78, "is open to others; run chmod g-wx,o="),
        (own, right, 0o604, 78, "is open to others; run chmod g-wx,o="),
        (table, &line, 0o660, 78, "is open to others; run chmod g-wx,o="),
        (table, &others, 0o600, 78, "password"),
        (
            table,
            &format!("{address}:5432:d:serve:wrong\n{line}"),
            0o600,
            78,
            "password authentication failed",
        ),
        (table, "", 0o600, 78, "password"),
    ] {
        let path = file(text, mode);
        let (found, said) = check(&cluster, &url, &[(setting, &path)]);
        assert!(
            found == code && said.contains(says),
            "{setting} {text:?} {mode:o}: {found} {said}"
        );
        assert!(!said.contains("ss\\word"), "{said}");
    }
    for (settings, says) in [
        (&[][..], "password"),
        (&[(own, "/nowhere")], "/nowhere"),
        (&[(own, "/")], "is not a regular file"),
        (&[(table, "/dev/null")], "is not a regular file"),
    ] {
        let (found, said) = check(&cluster, &url, settings);
        assert!(found == 78 && said.contains(says), "{settings:?}: {found} {said}");
    }
    // Another password by now: the next connection reads it.
    let path = file(right, 0o600);
    let settings = [("OPENEXEC_DB_URL", url.as_str()), (own, path.as_str())];
    let node = Node::start_ready(&cluster, "a", &settings);
    cluster.sql("d", "postgres", "ALTER ROLE serve PASSWORD 'another'");
    file("another", 0o600);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'serve'";
    cluster.sql("d", "postgres", end);
    node.insist("{\"action\":\"echo\",\"nonce\":\"n\",\"payload\":{}}");
}

/// The host that takes writes is found wherever it stands, and nothing is asked of the others.
#[test]
fn of_several_hosts_the_primary_is_found() {
    let cluster = Cluster::new();
    let address = listening(&cluster);
    let (one, two, three) = (cluster.dir.join("standby"), Cluster::new(), Path::new("/nowhere"));
    cluster.standby(&one);
    two.sql("postgres", "postgres", "ALTER SYSTEM SET default_transaction_read_only = on");
    two.sql("postgres", "postgres", "SELECT pg_reload_conf()");
    let down = format!("{address}:1");
    let url = |hosts: &[&str]| format!("postgresql://serve@{}/d", hosts.join(","));
    let over = |dirs: &[&Path]| {
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        format!("postgresql://serve@/d?host={}", dirs.join(","))
    };
    let here = format!("{address}:5432");
    let primary = cluster.dir.as_path();
    let served = [
        ("first", url(&[&here])),
        ("down", url(&[&down, &here])),
        ("nowhere", over(&[three, primary])),
        ("standby", over(&[&one, primary])),
        ("read-only", over(&[&two.dir, primary])),
        ("all", over(&[three, &one, &two.dir, primary])),
        ("last", over(&[primary, three])),
    ];
    for (name, url) in &served {
        let mut node = Node::start_ready(&cluster, name, &[("OPENEXEC_DB_URL", url)]);
        node.insist(&format!("{{\"action\":\"echo\",\"nonce\":\"{name}\",\"payload\":{{}}}}"));
        assert_eq!(cluster.count("claim", &format!("\"nonce\":\"{name}\"")), 1);
        node.kill();
        let (code, said) = check(&cluster, url, &[]);
        assert_eq!(code, 0, "{name}: {said}");
    }
    // Where there is none among them, a node stands by, says why of each, and executes nothing.
    let none = [
        ("only-down", url(&[&down]), "Connection refused"),
        ("only-standby", over(&[&one]), "the host is a standby and takes no writes"),
        ("only-read-only", over(&[&two.dir]), "takes no writes"),
        ("only-nowhere", over(&[three, three]), "No such file"),
        ("all-but", over(&[three, &one, &two.dir]), "the host is a standby and takes no writes"),
    ];
    for (name, url, says) in &none {
        let mut node = Node::start(&cluster, name, &[("OPENEXEC_DB_URL", url)]);
        until("it says why", || node.log().contains(says));
        let answer = node.echo(name).expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (503, "standby"));
        assert!(node.child.try_wait().expect("waited").is_none(), "{}", node.log());
        node.kill();
        let (code, said) = check(&cluster, url, &[]);
        assert!(code == 74 && said.contains(says), "{name}: {code}: {said}");
    }
    assert_eq!(cluster.count("claim", "only-"), 0);
    // The standby is promoted, and the one before is gone: the node goes over by itself.
    let url = over(&[primary, &one]);
    let node = Node::start_ready(&cluster, "over", &[("OPENEXEC_DB_URL", &url)]);
    let replied = node.insist("{\"action\":\"echo\",\"nonce\":\"before\",\"payload\":{}}");
    until("the standby has it", || {
        let sql = "SELECT count(*) FROM openexec.rec WHERE line LIKE '%\"nonce\":\"before\"%'";
        Cluster::asks(&one, sql) == "1"
    });
    cluster.stop();
    Cluster::asks(&one, "SELECT pg_promote()");
    let again = node.insist("{\"action\":\"echo\",\"nonce\":\"before\",\"payload\":{}}");
    assert_eq!(again.body, replied.body);
    node.insist("{\"action\":\"echo\",\"nonce\":\"after\",\"payload\":{}}");
    Cluster::end(&one);
}
