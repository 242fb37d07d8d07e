//! Generic tables (RtlInitializeGenericTableAvl): elements of the driver's in a tree that stays balanced, in memory that the driver
//! allocates for it.
//!
//! Names are those that ntoskrnl.exe exports for AVL trees. A node is its links, and the element behind them; the height of
//! its subtree is in the byte where Windows has the balance.
#![allow(unsafe_code)] // walks nodes by address

use std::cell::Cell;
use std::ptr;

use super::irql::called;
use super::types::{DISPATCH_LEVEL, PVOID, RTL_AVL_TABLE, RTL_BALANCED_LINKS};
use crate::guard::callout;
use crate::image::Export;

type Node = *mut RTL_BALANCED_LINKS;
/// RTL_GENERIC_COMPARE_RESULTS.
const LESS: u32 = 0;
const GREATER: u32 = 1;

pub(crate) type CompareRoutine = extern "win64" fn(*const RTL_AVL_TABLE, PVOID, PVOID) -> u32;
pub(crate) type AllocateRoutine = extern "win64" fn(*const RTL_AVL_TABLE, u32) -> PVOID;
pub(crate) type FreeRoutine = extern "win64" fn(*const RTL_AVL_TABLE, PVOID);

const LINKS: usize = size_of::<RTL_BALANCED_LINKS>();

fn links<'a>(node: Node) -> &'a RTL_BALANCED_LINKS {
    // SAFETY: a node of the tree, which its driver frees by the table's functions alone; a freed one faults.
    unsafe { &*node }
}

fn element(node: Node) -> PVOID {
    node.cast::<u8>().wrapping_add(LINKS).cast()
}

fn height(node: Node) -> i8 {
    if node.is_null() { 0 } else { links(node).Balance.get() }
}

fn root(table: &RTL_AVL_TABLE) -> Node {
    table.BalancedRoot.RightChild.get()
}

/// Puts `new` where `old` is below `parent`, which may be the table's own root.
fn replace_child(parent: Node, old: Node, new: Node) {
    let parent_links = links(parent);
    if parent_links.LeftChild.get() == old {
        parent_links.LeftChild.set(new);
    } else {
        parent_links.RightChild.set(new);
    }
    if !new.is_null() {
        links(new).Parent.set(parent);
    }
}

fn measure(node: Node) {
    let node = links(node);
    node.Balance.set(1 + height(node.LeftChild.get()).max(height(node.RightChild.get())));
}

/// Turns a subtree so that its left (or right) child is above; that child.
fn rotate(node: Node, left_up: bool) -> Node {
    let this = links(node);
    let child = if left_up { this.LeftChild.get() } else { this.RightChild.get() };
    let up = links(child);
    replace_child(this.Parent.get(), node, child);
    let moved = if left_up { up.RightChild.get() } else { up.LeftChild.get() };
    if left_up {
        this.LeftChild.set(moved);
        up.RightChild.set(node);
    } else {
        this.RightChild.set(moved);
        up.LeftChild.set(node);
    }
    if !moved.is_null() {
        links(moved).Parent.set(node);
    }
    this.Parent.set(child);
    measure(node);
    measure(child);
    child
}

/// Balances the tree from a node upwards.
fn rebalance(table: &RTL_AVL_TABLE, mut node: Node) {
    let top = ptr::from_ref(&table.BalancedRoot).cast_mut();
    while node != top {
        measure(node);
        let (left, right) = (links(node).LeftChild.get(), links(node).RightChild.get());
        if height(left) > height(right) + 1 {
            if height(links(left).LeftChild.get()) < height(links(left).RightChild.get()) {
                rotate(left, false);
            }
            node = rotate(node, true);
        } else if height(right) > height(left) + 1 {
            if height(links(right).RightChild.get()) < height(links(right).LeftChild.get()) {
                rotate(right, true);
            }
            node = rotate(node, false);
        }
        node = links(node).Parent.get();
    }
    table.DepthOfTree.set(u32::from(height(root(table)).unsigned_abs()));
}

/// Where an element is, or would be: the node, or the one above its place with the side of it.
enum Place {
    At(Node),
    Below(Node, bool),
}

fn find(table: &RTL_AVL_TABLE, wanted: PVOID) -> Place {
    let mut place = Place::Below(ptr::from_ref(&table.BalancedRoot).cast_mut(), false);
    let mut node = root(table);
    let Some(compare) = table.CompareRoutine.get() else { return place };
    while !node.is_null() {
        node = match callout("a table's compare routine", || compare(table, wanted, element(node))) {
            LESS => {
                place = Place::Below(node, true);
                links(node).LeftChild.get()
            }
            GREATER => {
                place = Place::Below(node, false);
                links(node).RightChild.get()
            }
            _ => return Place::At(node),
        };
    }
    place
}

/// A side of a node, or a way through the tree.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

impl Side {
    fn child(self, node: Node) -> Node {
        match self {
            Self::Left => links(node).LeftChild.get(),
            Self::Right => links(node).RightChild.get(),
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// The node at that end of a subtree.
fn outermost(mut node: Node, side: Side) -> Node {
    while !node.is_null() && !side.child(node).is_null() {
        node = side.child(node);
    }
    node
}

fn first(table: &RTL_AVL_TABLE) -> Node {
    outermost(root(table), Side::Left)
}

/// The node on that side of another, in order; null at the end.
fn neighbour(table: &RTL_AVL_TABLE, mut node: Node, side: Side) -> Node {
    let below = side.child(node);
    if !below.is_null() {
        return outermost(below, side.other());
    }
    let top = ptr::from_ref(&table.BalancedRoot).cast_mut();
    loop {
        let parent = links(node).Parent.get();
        if parent == top {
            return ptr::null_mut();
        }
        if side.other().child(parent) == node {
            return parent;
        }
        node = parent;
    }
}

fn next(table: &RTL_AVL_TABLE, node: Node) -> Node {
    neighbour(table, node, Side::Right)
}

/// Takes a node out of the tree.
fn unlink(table: &RTL_AVL_TABLE, node: Node) {
    let this = links(node);
    let (left, right) = (this.LeftChild.get(), this.RightChild.get());
    let from = if left.is_null() || right.is_null() {
        let child = if left.is_null() { right } else { left };
        replace_child(this.Parent.get(), node, child);
        this.Parent.get()
    } else {
        // The next one comes to where it was.
        let heir = outermost(right, Side::Left);
        let above = links(heir).Parent.get();
        replace_child(above, heir, links(heir).RightChild.get());
        let heirs = links(heir);
        heirs.LeftChild.set(this.LeftChild.get());
        heirs.RightChild.set(this.RightChild.get());
        for child in [heirs.LeftChild.get(), heirs.RightChild.get()] {
            if !child.is_null() {
                links(child).Parent.set(heir);
            }
        }
        replace_child(this.Parent.get(), node, heir);
        if above == node { heir } else { above }
    };
    rebalance(table, from);
}

pub(crate) extern "win64" fn RtlInitializeGenericTableAvl(
    table: &RTL_AVL_TABLE,
    compare: CompareRoutine,
    allocate: AllocateRoutine,
    free: FreeRoutine,
    context: PVOID,
) {
    called("RtlInitializeGenericTableAvl", DISPATCH_LEVEL);
    let top = ptr::from_ref(&table.BalancedRoot).cast_mut();
    table.BalancedRoot.Parent.set(top);
    table.BalancedRoot.LeftChild.set(ptr::null_mut());
    table.BalancedRoot.RightChild.set(ptr::null_mut());
    table.BalancedRoot.Balance.set(0);
    table.OrderedPointer.set(ptr::null_mut());
    for number in
        [&table.WhichOrderedElement, &table.NumberGenericTableElements, &table.DepthOfTree, &table.DeleteCount]
    {
        number.set(0);
    }
    table.RestartKey.set(ptr::null_mut());
    table.CompareRoutine.set(Some(compare));
    table.AllocateRoutine.set(Some(allocate));
    table.FreeRoutine.set(Some(free));
    table.TableContext.set(context);
}

pub(crate) extern "win64" fn RtlInsertElementGenericTableAvl(
    table: &RTL_AVL_TABLE,
    buffer: PVOID,
    size: u32,
    new: Option<&Cell<u8>>,
) -> PVOID {
    called("RtlInsertElementGenericTableAvl", DISPATCH_LEVEL);
    let (parent, left) = match find(table, buffer) {
        Place::At(node) => {
            if let Some(new) = new {
                new.set(0);
            }
            return element(node);
        }
        Place::Below(parent, left) => (parent, left),
    };
    let room = size.saturating_add(LINKS as u32);
    let allocate = table.AllocateRoutine.get();
    let block = allocate.map(|allocate| callout("a table's allocate routine", || allocate(table, room)));
    if let Some(new) = new {
        new.set(u8::from(block.is_some_and(|block| !block.is_null())));
    }
    let Some(block) = block.filter(|block| !block.is_null()) else { return ptr::null_mut() };
    let node: Node = block.cast();
    let fresh = links(node);
    fresh.Parent.set(parent);
    fresh.LeftChild.set(ptr::null_mut());
    fresh.RightChild.set(ptr::null_mut());
    fresh.Balance.set(1);
    // SAFETY: the driver allocated so many bytes, and gives as many; a bad range faults.
    unsafe { ptr::copy(buffer.cast::<u8>(), element(node).cast::<u8>(), size as usize) };
    if left {
        links(parent).LeftChild.set(node);
    } else {
        links(parent).RightChild.set(node);
    }
    table.NumberGenericTableElements.set(table.NumberGenericTableElements.get() + 1);
    table.WhichOrderedElement.set(0);
    rebalance(table, parent);
    element(node)
}

pub(crate) extern "win64" fn RtlDeleteElementGenericTableAvl(table: &RTL_AVL_TABLE, buffer: PVOID) -> u8 {
    called("RtlDeleteElementGenericTableAvl", DISPATCH_LEVEL);
    let Place::At(node) = find(table, buffer) else { return 0 };
    if table.RestartKey.get() == node {
        // An enumeration goes on behind it.
        table.RestartKey.set(neighbour(table, node, Side::Left));
    }
    unlink(table, node);
    table.NumberGenericTableElements.set(table.NumberGenericTableElements.get() - 1);
    table.DeleteCount.set(table.DeleteCount.get().wrapping_add(1));
    table.WhichOrderedElement.set(0);
    if let Some(free) = table.FreeRoutine.get() {
        callout("a table's free routine", || free(table, node.cast()));
    }
    1
}

pub(crate) extern "win64" fn RtlLookupElementGenericTableAvl(table: &RTL_AVL_TABLE, buffer: PVOID) -> PVOID {
    called("RtlLookupElementGenericTableAvl", DISPATCH_LEVEL);
    match find(table, buffer) {
        Place::At(node) => element(node),
        Place::Below(..) => ptr::null_mut(),
    }
}

pub(crate) extern "win64" fn RtlEnumerateGenericTableWithoutSplayingAvl(
    table: &RTL_AVL_TABLE,
    key: &Cell<PVOID>,
) -> PVOID {
    called("RtlEnumerateGenericTableWithoutSplayingAvl", DISPATCH_LEVEL);
    let node = if key.get().is_null() { first(table) } else { next(table, key.get().cast()) };
    if node.is_null() {
        return ptr::null_mut();
    }
    key.set(node.cast());
    element(node)
}

pub(crate) extern "win64" fn RtlEnumerateGenericTableAvl(table: &RTL_AVL_TABLE, restart: u8) -> PVOID {
    called("RtlEnumerateGenericTableAvl", DISPATCH_LEVEL);
    let known = table.RestartKey.get();
    let node = if restart != 0 || known.is_null() { first(table) } else { next(table, known) };
    if node.is_null() {
        return ptr::null_mut();
    }
    table.RestartKey.set(node);
    element(node)
}

pub(crate) extern "win64" fn RtlGetElementGenericTableAvl(table: &RTL_AVL_TABLE, index: u32) -> PVOID {
    called("RtlGetElementGenericTableAvl", DISPATCH_LEVEL);
    if index >= table.NumberGenericTableElements.get() {
        return ptr::null_mut();
    }
    let mut node = first(table);
    for _ in 0..index {
        node = next(table, node);
    }
    element(node)
}

pub(crate) extern "win64" fn RtlNumberGenericTableElementsAvl(table: &RTL_AVL_TABLE) -> u32 {
    called("RtlNumberGenericTableElementsAvl", DISPATCH_LEVEL);
    table.NumberGenericTableElements.get()
}

pub(crate) extern "win64" fn RtlIsGenericTableEmptyAvl(table: &RTL_AVL_TABLE) -> u8 {
    called("RtlIsGenericTableEmptyAvl", DISPATCH_LEVEL);
    u8::from(table.NumberGenericTableElements.get() == 0)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlInitializeGenericTableAvl,
    RtlInsertElementGenericTableAvl,
    RtlDeleteElementGenericTableAvl,
    RtlLookupElementGenericTableAvl,
    RtlEnumerateGenericTableWithoutSplayingAvl,
    RtlEnumerateGenericTableAvl,
    RtlGetElementGenericTableAvl,
    RtlNumberGenericTableElementsAvl,
    RtlIsGenericTableEmptyAvl,
];
