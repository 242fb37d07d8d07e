//! Splay links (RtlSplay), and the generic tables that are made of them (RtlInitializeGenericTable): what was found last is on top.
//!
//! A node is its links, its place in the order of insertion, and the element behind both. The root is its own parent.
#![allow(unsafe_code)] // walks nodes by address

use std::cell::Cell;
use std::ptr;

use super::irql::called;
use super::lists;
use super::types::{DISPATCH_LEVEL, HIGH_LEVEL, LIST_ENTRY, PVOID};
use crate::guard::callout;
use crate::image::Export;

/// A node's links (ntddk.h).
#[repr(C)]
pub(crate) struct RTL_SPLAY_LINKS {
    Parent: Cell<Links>,
    LeftChild: Cell<Links>,
    RightChild: Cell<Links>,
}

type Links = *mut RTL_SPLAY_LINKS;

/// What is before an element.
#[repr(C)]
struct Header {
    links: RTL_SPLAY_LINKS,
    order: LIST_ENTRY,
}

/// A generic table (ntddk.h).
#[repr(C)]
pub(crate) struct RTL_GENERIC_TABLE {
    TableRoot: Cell<Links>,
    InsertOrderList: LIST_ENTRY,
    OrderedPointer: Cell<*mut LIST_ENTRY>,
    /// Which element, from 1 on, `OrderedPointer` is at; 0 for none.
    WhichOrderedElement: Cell<u32>,
    NumberGenericTableElements: Cell<u32>,
    CompareRoutine: Cell<Option<CompareRoutine>>,
    AllocateRoutine: Cell<Option<AllocateRoutine>>,
    FreeRoutine: Cell<Option<FreeRoutine>>,
    TableContext: Cell<PVOID>,
}

/// RTL_GENERIC_COMPARE_RESULTS.
const LESS: u32 = 0;
const GREATER: u32 = 1;

/// TABLE_SEARCH_RESULT.
const EMPTY_TREE: u32 = 0;
const FOUND_NODE: u32 = 1;
const INSERT_AS_LEFT: u32 = 2;
const INSERT_AS_RIGHT: u32 = 3;

pub(crate) type CompareRoutine = extern "win64" fn(*const RTL_GENERIC_TABLE, PVOID, PVOID) -> u32;
pub(crate) type AllocateRoutine = extern "win64" fn(*const RTL_GENERIC_TABLE, u32) -> PVOID;
pub(crate) type FreeRoutine = extern "win64" fn(*const RTL_GENERIC_TABLE, PVOID);

fn links<'a>(node: Links) -> &'a RTL_SPLAY_LINKS {
    // SAFETY: a node of a tree, which its driver takes out before it frees it; a freed one faults, which the guard reports.
    unsafe { &*node }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    fn of(self, node: Links) -> &'static Cell<Links> {
        match self {
            Self::Left => &links(node).LeftChild,
            Self::Right => &links(node).RightChild,
        }
    }

    fn child(self, node: Links) -> Links {
        self.of(node).get()
    }
}

fn parent(node: Links) -> Links {
    links(node).Parent.get()
}

fn is_root(node: Links) -> bool {
    parent(node) == node
}

/// The side of its parent that a node is on, which is no root.
fn side(node: Links) -> Side {
    if Side::Left.child(parent(node)) == node { Side::Left } else { Side::Right }
}

/// Puts a node, or none, on a side of another.
fn attach(above: Links, side: Side, node: Links) {
    side.of(above).set(node);
    if !node.is_null() {
        links(node).Parent.set(above);
    }
}

/// Puts a node, or none, where another one is.
fn replace(old: Links, new: Links) {
    if !is_root(old) {
        attach(parent(old), side(old), new);
    } else if !new.is_null() {
        links(new).Parent.set(new);
    }
}

/// Turns a node above its parent.
fn rotate(node: Links) {
    let (below, from) = (parent(node), side(node));
    replace(below, node);
    attach(below, from, from.other().child(node));
    attach(node, from.other(), below);
}

/// Brings a node to the top of its tree.
fn splay(node: Links) -> Links {
    while !is_root(node) {
        let above = parent(node);
        if !is_root(above) {
            // Both in one direction, the upper one first; otherwise the node twice.
            rotate(if side(above) == side(node) { above } else { node });
        }
        rotate(node);
    }
    node
}

/// The node at that end of a subtree.
fn outermost(mut node: Links, side: Side) -> Links {
    while !node.is_null() && !side.child(node).is_null() {
        node = side.child(node);
    }
    node
}

/// The neighbour in order within a node's own subtree, or null.
fn inside(node: Links, side: Side) -> Links {
    outermost(side.child(node), side.other())
}

/// The neighbour in order, or null at the end.
fn neighbour(mut node: Links, towards: Side) -> Links {
    let below = inside(node, towards);
    if !below.is_null() {
        return below;
    }
    while !is_root(node) {
        if side(node) == towards.other() {
            return parent(node);
        }
        node = parent(node);
    }
    ptr::null_mut()
}

/// Takes a node out of its tree: the lowest node that this has changed, or the only one that is left; null if none is.
fn take_out(node: Links) -> Links {
    let (left, right) = (Side::Left.child(node), Side::Right.child(node));
    if left.is_null() || right.is_null() {
        let only = if left.is_null() { right } else { left };
        let above = if is_root(node) { only } else { parent(node) };
        replace(node, only);
        return above;
    }
    // The one before it comes to its place.
    let heir = inside(node, Side::Left);
    let changed = if heir == left {
        heir
    } else {
        let above = parent(heir);
        replace(heir, Side::Left.child(heir));
        attach(heir, Side::Left, left);
        above
    };
    replace(node, heir);
    attach(heir, Side::Right, right);
    changed
}

fn root_of(mut node: Links) -> Links {
    while !is_root(node) {
        node = parent(node);
    }
    node
}

pub(crate) extern "win64" fn RtlSplay(node: Links) -> Links {
    called("RtlSplay", DISPATCH_LEVEL);
    splay(node)
}

/// The tree's root is the node above the deleted one, then.
pub(crate) extern "win64" fn RtlDelete(node: Links) -> Links {
    called("RtlDelete", DISPATCH_LEVEL);
    let changed = take_out(node);
    if changed.is_null() { changed } else { splay(changed) }
}

pub(crate) extern "win64" fn RtlDeleteNoSplay(node: Links, root: &Cell<Links>) {
    called("RtlDeleteNoSplay", DISPATCH_LEVEL);
    let changed = take_out(node);
    root.set(if changed.is_null() { changed } else { root_of(changed) });
}

pub(crate) extern "win64" fn RtlSubtreeSuccessor(node: Links) -> Links {
    called("RtlSubtreeSuccessor", DISPATCH_LEVEL);
    inside(node, Side::Right)
}

pub(crate) extern "win64" fn RtlSubtreePredecessor(node: Links) -> Links {
    called("RtlSubtreePredecessor", DISPATCH_LEVEL);
    inside(node, Side::Left)
}

pub(crate) extern "win64" fn RtlRealSuccessor(node: Links) -> Links {
    called("RtlRealSuccessor", DISPATCH_LEVEL);
    neighbour(node, Side::Right)
}

pub(crate) extern "win64" fn RtlRealPredecessor(node: Links) -> Links {
    called("RtlRealPredecessor", DISPATCH_LEVEL);
    neighbour(node, Side::Left)
}

fn header<'a>(node: Links) -> &'a Header {
    // SAFETY: a node of a table, whose block begins with the header; a freed one faults.
    unsafe { &*node.cast::<Header>() }
}

fn element(node: Links) -> PVOID {
    node.cast::<Header>().wrapping_add(1).cast()
}

/// Where an element is, or would be.
#[derive(Clone, Copy)]
enum Place {
    Empty,
    At(Links),
    Below(Links, Side),
}

impl Place {
    /// As the functions whose names end with Full tell it: a node, and TABLE_SEARCH_RESULT.
    const fn told(self) -> (Links, u32) {
        match self {
            Self::Empty => (ptr::null_mut(), EMPTY_TREE),
            Self::At(node) => (node, FOUND_NODE),
            Self::Below(node, Side::Left) => (node, INSERT_AS_LEFT),
            Self::Below(node, Side::Right) => (node, INSERT_AS_RIGHT),
        }
    }

    const fn of(node: Links, result: u32) -> Self {
        match result {
            FOUND_NODE => Self::At(node),
            INSERT_AS_LEFT => Self::Below(node, Side::Left),
            INSERT_AS_RIGHT => Self::Below(node, Side::Right),
            _ => Self::Empty,
        }
    }
}

fn find(table: &RTL_GENERIC_TABLE, wanted: PVOID) -> Place {
    let (mut place, mut node) = (Place::Empty, table.TableRoot.get());
    let Some(compare) = table.CompareRoutine.get() else { return place };
    while !node.is_null() {
        let side = match callout("a table's compare routine", || compare(table, wanted, element(node))) {
            LESS => Side::Left,
            GREATER => Side::Right,
            _ => return Place::At(node),
        };
        place = Place::Below(node, side);
        node = side.child(node);
    }
    place
}

/// The element of a node, which is on top now.
fn bring_up(table: &RTL_GENERIC_TABLE, node: Links) -> PVOID {
    table.TableRoot.set(splay(node));
    element(node)
}

fn insert(table: &RTL_GENERIC_TABLE, buffer: PVOID, size: u32, new: Option<&Cell<u8>>, place: Place) -> PVOID {
    let tell = |is_new: bool| {
        if let Some(new) = new {
            new.set(u8::from(is_new));
        }
    };
    if let Place::At(node) = place {
        tell(false);
        return bring_up(table, node);
    }
    let room = size.saturating_add(size_of::<Header>() as u32);
    let block =
        table.AllocateRoutine.get().map(|allocate| callout("a table's allocate routine", || allocate(table, room)));
    let Some(block) = block.filter(|block| !block.is_null()) else {
        tell(false);
        return ptr::null_mut();
    };
    let node: Links = block.cast();
    let fresh = links(node);
    fresh.Parent.set(node);
    fresh.LeftChild.set(ptr::null_mut());
    fresh.RightChild.set(ptr::null_mut());
    // SAFETY: the driver allocated so many bytes, and gives as many; a bad range faults.
    unsafe { ptr::copy(buffer.cast::<u8>(), element(node).cast::<u8>(), size as usize) };
    lists::insert_tail(&table.InsertOrderList, &header(node).order);
    table.NumberGenericTableElements.set(table.NumberGenericTableElements.get() + 1);
    if let Place::Below(above, side) = place {
        attach(above, side, node);
    }
    tell(true);
    bring_up(table, node)
}

fn forget_order(table: &RTL_GENERIC_TABLE) {
    table.OrderedPointer.set(ptr::from_ref(&table.InsertOrderList).cast_mut());
    table.WhichOrderedElement.set(0);
}

pub(crate) extern "win64" fn RtlInitializeGenericTable(
    table: &RTL_GENERIC_TABLE,
    compare: CompareRoutine,
    allocate: AllocateRoutine,
    free: FreeRoutine,
    context: PVOID,
) {
    called("RtlInitializeGenericTable", DISPATCH_LEVEL);
    table.TableRoot.set(ptr::null_mut());
    lists::initialize_head(&table.InsertOrderList);
    forget_order(table);
    table.NumberGenericTableElements.set(0);
    table.CompareRoutine.set(Some(compare));
    table.AllocateRoutine.set(Some(allocate));
    table.FreeRoutine.set(Some(free));
    table.TableContext.set(context);
}

pub(crate) extern "win64" fn RtlInsertElementGenericTable(
    table: &RTL_GENERIC_TABLE,
    buffer: PVOID,
    size: u32,
    new: Option<&Cell<u8>>,
) -> PVOID {
    called("RtlInsertElementGenericTable", DISPATCH_LEVEL);
    insert(table, buffer, size, new, find(table, buffer))
}

/// With what RtlLookupElementGenericTableFull has told.
pub(crate) extern "win64" fn RtlInsertElementGenericTableFull(
    table: &RTL_GENERIC_TABLE,
    buffer: PVOID,
    size: u32,
    new: Option<&Cell<u8>>,
    node: Links,
    result: u32,
) -> PVOID {
    called("RtlInsertElementGenericTableFull", DISPATCH_LEVEL);
    insert(table, buffer, size, new, Place::of(node, result))
}

pub(crate) extern "win64" fn RtlDeleteElementGenericTable(table: &RTL_GENERIC_TABLE, buffer: PVOID) -> u8 {
    called("RtlDeleteElementGenericTable", DISPATCH_LEVEL);
    let Place::At(node) = find(table, buffer) else { return 0 };
    let changed = take_out(node);
    table.TableRoot.set(if changed.is_null() { changed } else { splay(changed) });
    lists::remove(&header(node).order);
    table.NumberGenericTableElements.set(table.NumberGenericTableElements.get() - 1);
    forget_order(table);
    if let Some(free) = table.FreeRoutine.get() {
        callout("a table's free routine", || free(table, node.cast()));
    }
    1
}

pub(crate) extern "win64" fn RtlLookupElementGenericTable(table: &RTL_GENERIC_TABLE, buffer: PVOID) -> PVOID {
    called("RtlLookupElementGenericTable", DISPATCH_LEVEL);
    match find(table, buffer) {
        Place::At(node) => bring_up(table, node),
        Place::Empty | Place::Below(..) => ptr::null_mut(),
    }
}

pub(crate) extern "win64" fn RtlLookupElementGenericTableFull(
    table: &RTL_GENERIC_TABLE,
    buffer: PVOID,
    node: &Cell<Links>,
    result: &Cell<u32>,
) -> PVOID {
    called("RtlLookupElementGenericTableFull", DISPATCH_LEVEL);
    let place = find(table, buffer);
    let told = place.told();
    node.set(told.0);
    result.set(told.1);
    match place {
        Place::At(node) => bring_up(table, node),
        Place::Empty | Place::Below(..) => ptr::null_mut(),
    }
}

/// The tree becomes a list by this: what is on top is the element that was told last.
pub(crate) extern "win64" fn RtlEnumerateGenericTable(table: &RTL_GENERIC_TABLE, restart: u8) -> PVOID {
    called("RtlEnumerateGenericTable", DISPATCH_LEVEL);
    let root = table.TableRoot.get();
    let node = match (root.is_null(), restart) {
        (true, _) => root,
        (false, 0) => neighbour(root, Side::Right),
        (false, _) => outermost(root, Side::Left),
    };
    if node.is_null() { ptr::null_mut() } else { bring_up(table, node) }
}

pub(crate) extern "win64" fn RtlEnumerateGenericTableWithoutSplaying(
    table: &RTL_GENERIC_TABLE,
    key: &Cell<Links>,
) -> PVOID {
    called("RtlEnumerateGenericTableWithoutSplaying", DISPATCH_LEVEL);
    let node = match key.get() {
        last if last.is_null() => outermost(table.TableRoot.get(), Side::Left),
        last => neighbour(last, Side::Right),
    };
    if node.is_null() {
        return ptr::null_mut();
    }
    key.set(node);
    element(node)
}

/// In the order of insertion.
pub(crate) extern "win64" fn RtlGetElementGenericTable(table: &RTL_GENERIC_TABLE, index: u32) -> PVOID {
    called("RtlGetElementGenericTable", HIGH_LEVEL);
    if index >= table.NumberGenericTableElements.get() {
        return ptr::null_mut();
    }
    let (mut entry, mut at) = (table.OrderedPointer.get(), table.WhichOrderedElement.get());
    if at > index + 1 {
        (entry, at) = (ptr::from_ref(&table.InsertOrderList).cast_mut(), 0);
    }
    for _ in at..=index {
        entry = lists::next(entry);
    }
    table.OrderedPointer.set(entry);
    table.WhichOrderedElement.set(index + 1);
    // The element is behind the entry, which is the header's last part.
    entry.wrapping_add(1).cast()
}

pub(crate) extern "win64" fn RtlNumberGenericTableElements(table: &RTL_GENERIC_TABLE) -> u32 {
    called("RtlNumberGenericTableElements", DISPATCH_LEVEL);
    table.NumberGenericTableElements.get()
}

pub(crate) extern "win64" fn RtlIsGenericTableEmpty(table: &RTL_GENERIC_TABLE) -> u8 {
    called("RtlIsGenericTableEmpty", DISPATCH_LEVEL);
    u8::from(table.TableRoot.get().is_null())
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlSplay,
    RtlDelete,
    RtlDeleteNoSplay,
    RtlSubtreeSuccessor,
    RtlSubtreePredecessor,
    RtlRealSuccessor,
    RtlRealPredecessor,
    RtlInitializeGenericTable,
    RtlInsertElementGenericTable,
    RtlInsertElementGenericTableFull,
    RtlDeleteElementGenericTable,
    RtlLookupElementGenericTable,
    RtlLookupElementGenericTableFull,
    RtlEnumerateGenericTable,
    RtlEnumerateGenericTableWithoutSplaying,
    RtlGetElementGenericTable,
    RtlNumberGenericTableElements,
    RtlIsGenericTableEmpty,
];

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::simulation::Random;

    #[test]
    fn layouts_are_those_of_the_headers() {
        assert_eq!((size_of::<RTL_SPLAY_LINKS>(), size_of::<Header>(), size_of::<RTL_GENERIC_TABLE>()), (24, 40, 72));
        assert_eq!(offset_of!(RTL_GENERIC_TABLE, InsertOrderList), 8);
        assert_eq!(offset_of!(RTL_GENERIC_TABLE, WhichOrderedElement), 32);
        assert_eq!(offset_of!(RTL_GENERIC_TABLE, CompareRoutine), 40);
    }

    /// The places of nodes in an array, in order, from a subtree whose links are checked.
    fn in_order(base: Links, node: Links, into: &mut Vec<usize>) {
        if node.is_null() {
            return;
        }
        for child in [Side::Left.child(node), Side::Right.child(node)] {
            assert!(child.is_null() || parent(child) == node);
        }
        in_order(base, Side::Left.child(node), into);
        into.push((node as usize - base as usize) / size_of::<RTL_SPLAY_LINKS>());
        in_order(base, Side::Right.child(node), into);
    }

    #[test]
    fn a_tree_keeps_its_order_whatever_is_brought_up_or_taken_out() {
        let mut random = Random::new(5);
        for _ in 0..300 {
            let count = 1 + random.below(24) as usize;
            let null = || Cell::new(ptr::null_mut());
            let mut nodes: Vec<_> =
                (0..count).map(|_| RTL_SPLAY_LINKS { Parent: null(), LeftChild: null(), RightChild: null() }).collect();
            let base = nodes.as_mut_ptr();
            let at = |index: usize| base.wrapping_add(index);
            // A chain, of which splaying makes something else.
            links(base).Parent.set(base);
            for index in 1..count {
                attach(at(index - 1), Side::Right, at(index));
            }
            let (mut root, mut left) = (base, (0..count).collect::<Vec<_>>());
            while !left.is_empty() {
                let place = random.below(left.len() as u64) as usize;
                let node = at(left[place]);
                root = match random.below(3) {
                    0 => splay(node),
                    _ => {
                        left.remove(place);
                        let changed = take_out(node);
                        match changed.is_null() {
                            true => changed,
                            false if random.below(2) == 0 => splay(changed),
                            false => root_of(changed),
                        }
                    }
                };
                let mut order = Vec::new();
                in_order(base, root, &mut order);
                assert_eq!(order, left);
                assert!(root.is_null() || is_root(root));
                for pair in left.windows(2) {
                    assert_eq!(neighbour(at(pair[0]), Side::Right), at(pair[1]));
                    assert_eq!(neighbour(at(pair[1]), Side::Left), at(pair[0]));
                }
            }
            assert!(root.is_null());
        }
    }
}
