//! Methods of sources that wrap another source.

/// Writes methods of [`DataSource`](crate::data::DataSource) that ask the source in a field.
macro_rules! forward {
    ($field:ident: $($method:ident),* $(,)?) => {
        $($crate::data::forward::forward!(@$method $field);)*
    };
    (@name $field:ident) => {
        fn name(&self) -> String {
            self.$field.name()
        }
    };
    (@dim $field:ident) => {
        fn dim(&self) -> usize {
            self.$field.dim()
        }
    };
    (@len $field:ident) => {
        fn len(&self) -> u64 {
            self.$field.len()
        }
    };
    (@skipped $field:ident) => {
        fn skipped(&self) -> u64 {
            self.$field.skipped()
        }
    };
    (@place $field:ident) => {
        fn place(&self, row: u64) -> (String, u64) {
            self.$field.place(row)
        }
    };
    (@column_names $field:ident) => {
        fn column_names(&self) -> Option<&[String]> {
            self.$field.column_names()
        }
    };
    (@incomplete $field:ident) => {
        fn incomplete(&self) -> &[u64] {
            self.$field.incomplete()
        }
    };
    (@columns $field:ident) => {
        fn columns(&self) -> Option<&$crate::data::Columns> {
            self.$field.columns()
        }
    };
}

pub(in crate::data) use forward;
