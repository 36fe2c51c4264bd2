//! The rules of the disk, one by one: all states that may be after a few steps.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::cut::write;
use super::*;

fn at(moment: usize) -> Span {
    Span { begin: moment, end: moment }
}

/// All states at a moment, each as the text of its files.
fn seen(disk: &mut Disk, cut: usize) -> BTreeSet<String> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let states = (0..20).flat_map(|_| disk.states(cut, 8, &mut random)).collect::<Vec<_>>();
    let text = |(path, file): (&PathBuf, &Option<File>)| {
        let file = file.as_ref()?;
        Some(format!("{}={}", path.display(), String::from_utf8_lossy(&file.content.bytes).replace('\0', "0")))
    };
    states.iter().map(|state| state.0.iter().filter_map(text).collect::<Vec<_>>().join(" ")).collect()
}

fn all<const N: usize>(states: [&str; N]) -> BTreeSet<String> {
    states.into_iter().map(str::to_owned).collect()
}

/// A file is written, synced and renamed, and the folder is synced: at each moment what must and may be there.
#[test]
fn what_is_synced_stays_and_what_is_not_may_go() {
    let mut disk = Disk::new();
    let [fresh, named] = ["fresh", "named"].map(Path::new);
    let file = disk.make_file(at(1), fresh, 0o600);
    disk.write(at(2), file, 0, b"abc".to_vec());
    disk.sync(at(4), file, "file");
    disk.rename(at(6), fresh, named);
    disk.sync(at(8), ROOT, "");
    assert_eq!(seen(&mut disk, 0), all([""]));
    assert_eq!(seen(&mut disk, 1), all(["", "fresh="]));
    assert_eq!(seen(&mut disk, 2), all(["", "fresh=", "fresh=000", "fresh=abc"]));
    assert_eq!(seen(&mut disk, 4), all(["", "fresh=abc"]));
    assert_eq!(seen(&mut disk, 7), all(["", "fresh=abc", "named=abc"]));
    assert_eq!(seen(&mut disk, 8), all(["named=abc"]));
    disk.leave_out(Some("file"));
    assert_eq!(seen(&mut disk, 8), all(["named=", "named=000", "named=abc"]));
    assert_eq!(disk.moments(), (vec![1, 4, 6, 8], vec![2]));
}

#[test]
fn a_rename_without_a_sync_of_the_file_may_name_nothing() {
    let mut disk = Disk::new();
    let file = disk.make_file(at(1), Path::new("fresh"), 0o600);
    disk.write(at(2), file, 0, b"abc".to_vec());
    disk.rename(at(3), Path::new("fresh"), Path::new("named"));
    disk.sync(at(5), ROOT, "");
    assert_eq!(seen(&mut disk, 5), all(["named=", "named=000", "named=abc"]));
}

#[test]
fn a_sync_covers_what_ended_before_it_began() {
    let mut disk = Disk::new();
    let file = disk.make_file(at(0), Path::new("file"), 0o600);
    disk.sync(at(1), ROOT, "");
    disk.write(Span { begin: 2, end: 4 }, file, 0, b"a".to_vec());
    disk.sync(Span { begin: 3, end: 5 }, file, "");
    assert_eq!(seen(&mut disk, 5), all(["file=", "file=0", "file=a"]));
    disk.sync(Span { begin: 6, end: 8 }, file, "");
    assert!(seen(&mut disk, 7).contains("file="), "it has not ended");
    assert_eq!(seen(&mut disk, 8), all(["file=a"]));
    assert_eq!((disk.written(file, 4), disk.written(file, 5)), (0, 1));
}

#[test]
fn a_rename_between_folders_is_made_sure_by_the_new_one() {
    let both = |synced: Option<&str>| {
        let mut disk = Disk::new();
        let folders: Vec<Node> = ["a", "b"].map(|name| disk.make_folder(at(0), Path::new(name))).to_vec();
        disk.make_file(at(0), Path::new("a/x"), 0o600);
        folders.iter().chain([&ROOT]).for_each(|folder| disk.sync(at(1), *folder, ""));
        disk.rename(at(2), Path::new("a/x"), Path::new("b/y"));
        if let Some(folder) = synced.and_then(|name| disk.find(Path::new(name))) {
            disk.sync(at(3), folder, "");
        }
        seen(&mut disk, 3)
    };
    assert_eq!(both(None), all(["a/x=", "a/x= b/y=", "b/y="]));
    assert_eq!(both(Some("a")), both(None));
    assert_eq!(both(Some("b")), all(["a/x= b/y=", "b/y="]));
}

#[test]
fn names_are_lost_one_by_one_but_each_in_its_order() {
    let mut disk = Disk::new();
    let folder = disk.make_folder(at(0), Path::new("f"));
    disk.make_file(at(0), Path::new("f/one"), 0o600);
    disk.make_file(at(0), Path::new("f/two"), 0o600);
    [ROOT, folder].into_iter().for_each(|node| disk.sync(at(1), node, ""));
    disk.leave(at(2), Path::new("f/one"));
    disk.leave(at(3), Path::new("f/two"));
    assert_eq!(seen(&mut disk, 3), all(["", "f/one=", "f/two=", "f/one= f/two="]));

    let mut disk = Disk::new();
    disk.make_file(at(0), Path::new("x"), 0o600);
    disk.sync(at(1), ROOT, "");
    disk.rename(at(2), Path::new("x"), Path::new("y"));
    let other = disk.make_file(at(3), Path::new("x"), 0o600);
    disk.write(at(3), other, 0, b"2".to_vec());
    let states = seen(&mut disk, 3);
    assert!(states.contains("x=2 y=") && states.contains("x=") && states.contains("y="), "{states:?}");
    assert!(!states.contains("x=2"), "the first file has not gone: {states:?}");
}

#[test]
fn long_writes_are_torn_between_sectors() {
    let mut file = vec![b'a'; 100];
    write(&mut file, 100, &[b'b'; 1000], Fate::Torn(700));
    assert_eq!((file.len(), file[100], file[511]), (512, b'b', b'b'));
    write(&mut file, 700, b"short", Fate::Torn(3));
    assert_eq!(file.len(), 512);
    write(&mut file, 600, b"c", Fate::Half);
    assert_eq!((file.len(), file[600]), (601, 0));
}
