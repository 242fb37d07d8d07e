//! `route`.

use super::*;

fn on(provider: &Provider, arguments: &[&str]) -> Ran {
    sanctl_with(&[&["route"], arguments].concat(), Ok(provider.clone()), io::empty())
}

#[test]
fn routes_are_added_listed_and_removed() {
    let (provider, _) = FakeDevice::provider();
    let none = "The driver has no routes: every SAN address is its own native address.\n";
    assert_eq!(on(&provider, &["list"]).done(), none);
    let added = on(&provider, &["add", "10.77.0.0/16", "192.168.0.0/16", "--san-only"]);
    let said =
        "sanctl: it lasts until the driver is unloaded; to keep it, add this line to the registry value Routes:\n";
    assert_eq!((&*added.errors, &*added.output), (said, "10.77.0.0/16 192.168.0.0/16 san-only\n"));
    on(&provider, &["add", "fd00:7::/64", "fe80::/64", "--port", "28058"]).done();
    let listed = "\
SAN                      native                    port  TCP/IP    from
fd00:7::/64              fe80::/64                28058  reaches   until unload
10.77.0.0/16             192.168.0.0/16             own  no        until unload
";
    assert_eq!(on(&provider, &["list"]).done(), listed);
    let value = on(&provider, &["list", "--json"]).json();
    let route = &value["routes"][0];
    assert_eq!(
        (&route["san"], &route["port"], &route["san_only"]),
        (&"fd00:7::/64".into(), &28058.into(), &false.into())
    );
    on(&provider, &["remove", "10.77.0.0/16"]).done();
    on(&provider, &["remove", "fd00:7::/64"]).done();
    assert_eq!(on(&provider, &["list"]).done(), none);
}

#[test]
fn list_shows_the_subnets_of_the_switchs_file() {
    let file = std::env::temp_dir().join(format!("sanctl-{}-subnets.toml", std::process::id()));
    std::fs::write(&file, "subnet = [{ prefix = '10.0.0.0/8', local = '10.0.0.7' }, { prefix = '10.1.0.0/16' }]")
        .unwrap();
    let (provider, _) = FakeDevice::provider();
    let listed = on(&provider, &["list", "--config", file.to_str().unwrap()]).done();
    let value = on(&provider, &["list", "--json", "--config", file.to_str().unwrap()]).json();
    std::fs::remove_file(&file).unwrap();
    let expected = format!("{} has 2 subnets:\n  10.1.0.0/16\n  10.0.0.0/8 from 10.0.0.7\n", file.display());
    assert!(listed.ends_with(&expected), "{listed}");
    assert_eq!(value["subnets"][1]["local"], "10.0.0.7");
}

#[test]
fn what_cannot_be_done_is_told_with_what_to_do() {
    let (provider, device) = FakeDevice::provider();
    on(&provider, &["add", "10.0.0.0/8", "11.0.0.0/8"]).done();
    for (arguments, said) in [
        (&["add", "10.0.0.0/8", "12.0.0.0/8"][..], "STATUS_OBJECT_NAME_COLLISION"),
        (&["add", "10.0.0.0/9", "12.0.0.0/8"], "STATUS_INVALID_PARAMETER"),
        (&["add", "10.0.0.0/8", "fd00::/8"], "STATUS_INVALID_PARAMETER"),
        (&["remove", "12.0.0.0/8"], "STATUS_OBJECT_NAME_NOT_FOUND"),
    ] {
        let errors = on(&provider, arguments).failed();
        assert!(errors.contains(said) && errors.contains("\nhint: "), "{errors}");
    }
    device.make_ordinary();
    let errors = on(&provider, &["remove", "10.0.0.0/8"]).failed();
    assert!(
        errors.contains("WSAEACCES (10013), STATUS_PRIVILEGE_NOT_HELD") && errors.contains("administrator"),
        "{errors}"
    );
    on(&provider, &["list"]).done();
}
