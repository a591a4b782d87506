//! What visits of points yield.

/// What a visit of points adds up.
#[derive(Debug, Default)]
pub struct SetSums {
    pub total_weight: f64,
    pub n_points: f64,
    pub log_evidence: f64,
    pub posterior_entropy: f64,
    /// Components with mass, in the order in which they got it.
    components: Vec<u32>,
    /// Mass and statistics about the own centre, one row a component of `components`.
    values: Vec<f64>,
    /// Where a component stands in `components`, if it does.
    places: Vec<u32>,
    /// Numbers of rows, piece by piece of the components, and where each piece begins.
    by_piece: Vec<u32>,
    pieces: Vec<u32>,
}

impl SetSums {
    /// Returns sums of no points, for so many components.
    pub fn of(n_components: usize) -> Self {
        Self { places: vec![0; n_components], ..Self::default() }
    }

    /// Forgets all sums.
    pub fn clear(&mut self) {
        (self.total_weight, self.n_points) = (0.0, 0.0);
        (self.log_evidence, self.posterior_entropy) = (0.0, 0.0);
        self.components.clear();
        self.values.clear();
    }

    /// Returns the row of a component, of zeros if it is new.
    pub fn row(&mut self, component: u32, len: usize) -> &mut [f64] {
        let found = self.places[component as usize] as usize;
        let at = match self.components.get(found) {
            Some(&it) if it == component => found,
            _ => {
                self.places[component as usize] = self.components.len() as u32;
                self.components.push(component);
                self.values.resize(self.values.len() + len, 0.0);
                self.components.len() - 1
            }
        };
        &mut self.values[at * len..][..len]
    }

    /// Arranges the rows by pieces of so many components each, for [`rows_of_piece`](Self::rows_of_piece).
    pub fn arrange(&mut self, per_piece: usize) {
        let n_pieces = self.places.len().div_ceil(per_piece);
        let piece = |component: &u32| *component as usize / per_piece;
        self.pieces.clear();
        self.pieces.resize(n_pieces + 2, 0);
        self.components.iter().for_each(|it| self.pieces[piece(it) + 2] += 1);
        (2..n_pieces + 2).for_each(|k| self.pieces[k] += self.pieces[k - 1]);
        self.by_piece.resize(self.components.len(), 0);
        for (row, it) in self.components.iter().enumerate() {
            let next = &mut self.pieces[piece(it) + 1];
            self.by_piece[*next as usize] = row as u32;
            *next += 1;
        }
    }

    /// Returns mass and sums of the components of a piece, in the order in which they got mass.
    pub fn rows_of_piece(&self, piece: usize) -> impl Iterator<Item = (u32, &[f64])> {
        let len = self.row_len();
        let rows = self.pieces[piece] as usize..self.pieces[piece + 1] as usize;
        let row = move |row: &u32| {
            let row = *row as usize;
            (self.components[row], &self.values[row * len..][..len])
        };
        self.by_piece[rows].iter().map(row)
    }

    fn row_len(&self) -> usize {
        self.values.len().checked_div(self.components.len()).unwrap_or(1).max(1)
    }

    /// Returns mass and sums of the components, in their order.
    pub fn rows(&self) -> impl Iterator<Item = (u32, &[f64])> {
        self.components.iter().copied().zip(self.values.chunks_exact(self.row_len()))
    }
}

/// The posteriors of points, in the order in which they were visited.
#[derive(Debug)]
pub struct PointPosteriors<T> {
    /// `ln Σ_{c ∈ K_n} p(x_n, c)` but for the base measure; NaN for a point without it.
    pub log_evidence: Vec<f64>,
    /// Entropy of each posterior.
    pub entropy: Vec<f64>,
    /// Probabilities of the members of each set, in their order.
    pub probabilities: Vec<T>,
}

impl<T> Default for PointPosteriors<T> {
    fn default() -> Self {
        let [log_evidence, entropy] = [const { Vec::new() }; 2];
        Self { log_evidence, entropy, probabilities: Vec::new() }
    }
}

impl<T> PointPosteriors<T> {
    /// Forgets all points.
    pub fn clear(&mut self) {
        self.log_evidence.clear();
        self.entropy.clear();
        self.probabilities.clear();
    }
}

/// What is wanted of a visit besides better sets.
#[derive(Debug)]
pub enum Wanted<'a, T> {
    /// Nothing.
    Sets,
    /// Sums of statistics.
    Sums(&'a mut SetSums),
    /// The posteriors of the points.
    Posteriors(&'a mut PointPosteriors<T>),
}
