//! One part of a tenant's table: cells, found by the tags of their names.

use super::cell::{Cell, Flags, NEVER};
use super::gate::NO_GROUP;
use super::ids::Ids;
use super::key::{Asked, Key};

/// Cells of which the tags stand side by side.
const ROW: usize = 32;
/// Cells that are made together, 2 KiB: none of them ever moves, and a table that grows leaves no holes in the memory.
const CHUNK: usize = 16;
/// Above so many cells the table of a tenant is spread over more parts: while there is one, and when there are more.
pub(crate) const CELLS_ALONE: u32 = 256;
pub(crate) const CELLS_CROWDED: u32 = 128;
/// Down to so many cells a part may be joined with another; together they have at most [`CELLS_JOINED`].
pub(crate) const CELLS_SPARSE: u32 = 16;
pub(crate) const CELLS_JOINED: u32 = 64;

/// The tags of 32 cells, one line for the names of sessions and one for those of subjects at home; 0 is none.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Row {
    sessions: [u16; ROW],
    homes: [u16; ROW],
}

const NO_TAGS: Row = Row { sessions: [0; ROW], homes: [0; ROW] };

/// The routes for which a stripe answers: those that, read backwards, end with the stripe's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) number: u32,
    /// How many bits of it.
    pub(crate) bits: u32,
}

impl Range {
    /// Every route.
    pub(crate) const WHOLE: Range = Range { number: 0, bits: 0 };

    pub(crate) fn is_whole(self) -> bool {
        self.bits == 0
    }

    pub(crate) fn covers(self, route: u32) -> bool {
        (route.reverse_bits() ^ self.number) & ((1u32 << self.bits) - 1) == 0
    }

    /// How many routes they are.
    pub(crate) fn width(self) -> u64 {
        1 << (32 - self.bits)
    }

    /// The first route that comes after them.
    pub(crate) fn end(self) -> u64 {
        u64::from(self.number.reverse_bits()) + self.width()
    }

    /// The two halves.
    pub(crate) fn halves(self) -> (Range, Range) {
        let bits = self.bits + 1;
        (Range { bits, ..self }, Range { number: self.number | 1 << self.bits, bits })
    }

    /// The range of which this is a half.
    pub(crate) fn joined(self) -> Range {
        let bits = self.bits.saturating_sub(1);
        Range { number: self.number & ((1 << bits) - 1), bits }
    }
}

/// Cells that were made together.
#[derive(Debug)]
struct Chunk(Box<[Cell; CHUNK]>);

/// A part of the table.
#[derive(Debug)]
pub(crate) struct Part {
    rows: Vec<Row>,
    chunks: Vec<Chunk>,
    /// So many cells were ever in use.
    len: u32,
    /// The first of them that is vacant, and how many are not.
    vacant: u32,
    used: u32,
    /// Lower bound of the deadlines of its sessions.
    pub(crate) due: u64,
    /// `None` for a part that is not in use.
    pub(crate) range: Option<Range>,
    /// Seats without a claim: until when their subjects keep them (E2), and where these are at home.
    pub(crate) lingering: Vec<(u64, u32)>,
    /// The ids of the sessions, while this is the only part.
    pub(crate) ids: Ids,
}

const NO_CELL: u32 = u32::MAX;

impl Part {
    pub(crate) fn new(range: Option<Range>, version: u64) -> Self {
        Part {
            rows: Vec::new(),
            chunks: Vec::new(),
            len: 0,
            vacant: NO_CELL,
            used: 0,
            due: NEVER,
            range,
            lingering: Vec::new(),
            ids: Ids::new(version),
        }
    }

    /// True if it is the only part of its table.
    pub(crate) fn is_whole(&self) -> bool {
        self.range.is_some_and(Range::is_whole)
    }

    /// Cells in use.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// Cells for which it has memory.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.used > CELLS_CROWDED && (self.used > CELLS_ALONE || !self.is_whole())
    }

    /// True if its table may have to shrink. Not at every step down: joining looks at other parts too.
    pub(crate) fn is_sparse(&self) -> bool {
        self.is_hollow() || (self.used <= CELLS_SPARSE && self.used.is_multiple_of(8) && !self.is_whole())
    }

    /// True if most of its memory is unused.
    pub(crate) fn is_hollow(&self) -> bool {
        self.len > ROW as u32 && self.used * 4 < self.len
    }

    #[inline]
    pub(crate) fn cell(&self, at: u32) -> &Cell {
        &self.chunks[at as usize / CHUNK].0[at as usize % CHUNK]
    }

    #[inline]
    pub(crate) fn cell_mut(&mut self, at: u32) -> &mut Cell {
        &mut self.chunks[at as usize / CHUNK].0[at as usize % CHUNK]
    }

    /// Cells in use.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.chunks.iter().flat_map(|chunk| chunk.0.iter()).filter(|cell| cell.is_live() || cell.is_home())
    }

    /// The cells that hold a session.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Cell> {
        self.cells().filter(|cell| cell.is_live())
    }

    pub(crate) fn sessions_mut(&mut self) -> impl Iterator<Item = &mut Cell> {
        self.chunks.iter_mut().flat_map(|chunk| chunk.0.iter_mut()).filter(|cell| cell.is_live())
    }

    pub(crate) fn find_session(&self, id: &Asked<'_>) -> Option<u32> {
        let tag = id.tag();
        self.find(|row| &row.sessions, tag, |cell| id.is(&cell.session))
    }

    pub(crate) fn find_home(&self, subject: &Asked<'_>) -> Option<u32> {
        let tag = subject.tag();
        self.find(|row| &row.homes, tag, |cell| subject.is(&cell.subject))
    }

    /// Reads the tags from end to end, as vectors: a row, then the quarter of it that has the tag.
    fn find(&self, tags: impl Fn(&Row) -> &[u16; ROW], tag: u16, is: impl Fn(&Cell) -> bool) -> Option<u32> {
        let has = |tags: &[u16]| tags.iter().fold(false, |any, own| any | (*own == tag));
        for (first, row) in (0u32..).step_by(ROW).zip(&self.rows) {
            let tags = tags(row);
            if !has(tags) {
                continue;
            }
            for (first, quarter) in (first..).step_by(ROW / 4).zip(tags.as_chunks::<{ ROW / 4 }>().0) {
                if has(quarter)
                    && let Some(at) = (first..).zip(quarter).find(|(at, own)| **own == tag && is(self.cell(*at)))
                {
                    return Some(at.0);
                }
            }
        }
        None
    }

    /// A cell for a session of its own route.
    pub(crate) fn add(&mut self, route: u32) -> u32 {
        let at = match self.vacant {
            NO_CELL => {
                self.reserve(1);
                self.len += 1;
                self.len - 1
            }
            vacant => vacant,
        };
        self.used += 1;
        let cell = self.cell_mut(at);
        let next = std::mem::replace(&mut cell.claims, 0);
        cell.route = route;
        if at == self.vacant {
            self.vacant = next;
        }
        at
    }

    /// A home for a subject that has none here.
    pub(crate) fn add_home(&mut self, subject: &Asked<'_>) -> u32 {
        let at = self.add(subject.route());
        let cell = self.cell_mut(at);
        cell.subject = subject.key();
        cell.set_home(true);
        self.rows[at as usize / ROW].homes[at as usize % ROW] = subject.tag();
        at
    }

    /// Makes the session that was put into a cell known by its id; answers the route of the cell.
    pub(crate) fn settle(&mut self, at: u32, id: &Asked<'_>) -> u32 {
        self.rows[at as usize / ROW].sessions[at as usize % ROW] = id.tag();
        let cell = self.cell_mut(at);
        cell.id_route = id.route();
        cell.route
    }

    /// Takes the session of a cell away; the cell goes with it where nothing else needs it. Answers the routes of the id
    /// and of the cell.
    pub(crate) fn clear(&mut self, at: u32) -> (u32, u32) {
        self.rows[at as usize / ROW].sessions[at as usize % ROW] = 0;
        let cell = self.cell_mut(at);
        let routes = (cell.id_route, cell.route);
        cell.leave_session();
        if cell.is_home() {
            self.forget_if_unused(at);
        } else {
            self.vacate(at);
        }
        routes
    }

    /// Gives a home back once no session and no seat needs it.
    pub(crate) fn forget_if_unused(&mut self, at: u32) {
        let cell = self.cell(at);
        if cell.sessions == 0 && cell.is_home() && !cell.is_seated() && !cell.is_live() {
            self.vacate(at);
        }
    }

    fn vacate(&mut self, at: u32) {
        let next = self.vacant;
        let cell = self.cell_mut(at);
        cell.subject = Key::default();
        cell.group = NO_GROUP;
        cell.flags = Flags::default();
        cell.claims = next;
        cell.sessions = 0;
        self.vacant = at;
        self.used -= 1;
        self.rows[at as usize / ROW].homes[at as usize % ROW] = 0;
    }

    /// Moves the cells for which `goes` is true to another part.
    pub(crate) fn move_to(&mut self, other: &mut Part, goes: impl Fn(&Cell) -> bool) {
        other.due = other.due.min(self.due);
        for at in 0..self.len {
            let cell = self.cell(at);
            if !(cell.is_live() || cell.is_home()) || !goes(cell) {
                continue;
            }
            let place = other.add(cell.route);
            let (row, tags) = (&self.rows[at as usize / ROW], &mut other.rows[place as usize / ROW]);
            tags.sessions[place as usize % ROW] = row.sessions[at as usize % ROW];
            tags.homes[place as usize % ROW] = row.homes[at as usize % ROW];
            let lingers = self.lingering.extract_if(.., |(_, home)| *home == at);
            other.lingering.extend(lingers.map(|(until, _)| (until, place)));
            *other.cell_mut(place) = std::mem::take(self.cell_mut(at));
            self.rows[at as usize / ROW].sessions[at as usize % ROW] = 0;
            self.vacate(at);
        }
    }

    /// Lays the cells out anew, without the holes; answers what held them, to be freed where nobody waits.
    pub(crate) fn lay_out(&mut self) -> Part {
        let mut fresh = Part { ids: std::mem::take(&mut self.ids), ..Part::new(self.range, 0) };
        fresh.reserve(self.used as usize);
        self.move_to(&mut fresh, |_| true);
        std::mem::replace(self, fresh)
    }

    /// Memory for so many more cells; made beforehand, nobody waits for it.
    pub(crate) fn reserve(&mut self, cells: usize) {
        let cells = self.len as usize + cells;
        while self.chunks.len() * CHUNK < cells {
            self.chunks.push(Chunk(Box::new(std::array::from_fn(|_| Cell::default()))));
        }
        while self.rows.len() * ROW < cells {
            self.rows.reserve_exact(1);
            self.rows.push(NO_TAGS);
        }
    }
}
