//! Parquet (Apache Parquet Format 2.11): a column for each field of a flow in a list, and its heads and bodies.
//!
//! The columns are those of [`FlowItem::FIELDS`] with `_` for the dot, and `request_headers`,
//! `response_headers` (a JSON array of names and values), `request_body`, `response_body` (the bytes as
//! stored). What is not known is null. Memory holds one group of rows.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use serde_json::Value;

use crate::json::FlowItem;
use crate::limits::{PARQUET_GROUP_BYTES_MAX, PARQUET_GROUP_ROWS_MAX};
use crate::{FlowRecord, HeadView};

/// A Parquet file that flows are written to.
pub struct ParquetWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
    rows: usize,
    /// Of the heads and bodies among them.
    bytes: usize,
    written: u64,
}

/// A column of the group that is gathered.
struct Column {
    name: String,
    cells: Cells,
}

enum Cells {
    Text(Gathered<ByteArray>),
    Bytes(Gathered<ByteArray>),
    Number(Gathered<i64>),
    Millis(Gathered<f64>),
    Time(Gathered<i64>),
    Truth(Gathered<bool>),
}

/// Values, and for each row whether it has one.
struct Gathered<T> {
    values: Vec<T>,
    levels: Vec<i16>,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Begins a file.
    pub fn begin(out: W) -> io::Result<Self> {
        let mut columns: Vec<Column> = FlowItem::FIELDS
            .iter()
            .map(|(name, kind)| Column::of_field(name, kind))
            .collect();
        columns.extend([
            Column::new("request_headers", Cells::Text(Gathered::new())),
            Column::new("response_headers", Cells::Text(Gathered::new())),
            Column::new("request_body", Cells::Bytes(Gathered::new())),
            Column::new("response_body", Cells::Bytes(Gathered::new())),
        ]);
        let fields = columns.iter().map(Column::schema).collect::<Result<_, _>>();
        let schema = Type::group_type_builder("flow").with_fields(fields.map_err(error)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
        let file = SerializedFileWriter::new(
            out,
            Arc::new(schema.build().map_err(error)?),
            Arc::new(properties.build()),
        );
        Ok(Self {
            file: file.map_err(error)?,
            columns,
            rows: 0,
            bytes: 0,
            written: 0,
        })
    }

    /// Takes a flow.
    pub fn write(&mut self, record: &FlowRecord) -> io::Result<()> {
        let row = &record.detail.row;
        let item = serde_json::to_value(FlowItem::new(row))?;
        let mut columns = self.columns.iter_mut();
        for ((name, _), column) in FlowItem::FIELDS.iter().zip(columns.by_ref()) {
            let found = name
                .split('.')
                .try_fold(&item, |value, part| value.get(part));
            match &mut column.cells {
                // Written as a number, so not read from its text.
                Cells::Time(times) => times.put(Some(row.started_at.0)),
                cells => cells.put(found.unwrap_or(&Value::Null)),
            }
        }
        let head = |head: &HeadView| serde_json::to_vec(&head.fields);
        let response = record.detail.response.as_ref();
        let rest = [
            Some(head(&record.detail.request)?),
            response.map(head).transpose()?,
            record.request_body.clone(),
            record.response_body.clone(),
        ];
        for (column, bytes) in columns.zip(rest) {
            self.bytes += bytes.as_ref().map_or(0, Vec::len);
            column.cells.put_bytes(bytes);
        }
        self.rows += 1;
        self.written += 1;
        match self.rows >= PARQUET_GROUP_ROWS_MAX || self.bytes >= PARQUET_GROUP_BYTES_MAX {
            true => self.write_group(),
            false => Ok(()),
        }
    }

    /// Ends the file; answers how many flows are in it.
    pub fn finish(mut self) -> io::Result<u64> {
        self.write_group()?;
        self.file.close().map_err(error)?;
        Ok(self.written)
    }

    fn write_group(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group().map_err(error)?;
        for column in &mut self.columns {
            if let Some(mut writer) = group.next_column().map_err(error)? {
                column.cells.write(&mut writer).map_err(error)?;
                writer.close().map_err(error)?;
            }
        }
        group.close().map_err(error)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl<W: Write + Send> fmt::Debug for ParquetWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetWriter")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl Column {
    fn new(name: &str, cells: Cells) -> Self {
        Self {
            name: name.replace('.', "_"),
            cells,
        }
    }

    /// A field of a flow in a list, by what the list says of its values.
    fn of_field(name: &str, kind: &str) -> Self {
        let cells = match kind.trim_end_matches(" | null") {
            "number" if name.ends_with("_ms") => Cells::Millis(Gathered::new()),
            "number" => Cells::Number(Gathered::new()),
            "time" => Cells::Time(Gathered::new()),
            "true | false" => Cells::Truth(Gathered::new()),
            _ => Cells::Text(Gathered::new()),
        };
        Self::new(name, cells)
    }

    fn schema(&self) -> Result<Arc<Type>, ParquetError> {
        let (physical, logical) = match self.cells {
            Cells::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Cells::Bytes(_) => (Physical::BYTE_ARRAY, None),
            Cells::Number(_) => (Physical::INT64, None),
            Cells::Millis(_) => (Physical::DOUBLE, None),
            Cells::Time(_) => {
                let micros = LogicalType::timestamp(true, TimeUnit::MICROS);
                (Physical::INT64, Some(micros))
            }
            Cells::Truth(_) => (Physical::BOOLEAN, None),
        };
        let column = Type::primitive_type_builder(&self.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical);
        column.build().map(Arc::new)
    }
}

impl Cells {
    fn put(&mut self, value: &Value) {
        match self {
            Self::Text(cells) | Self::Bytes(cells) => cells.put(match value {
                Value::Null => None,
                Value::String(text) => Some(text.as_bytes().to_vec().into()),
                other => Some(other.to_string().into_bytes().into()),
            }),
            Self::Number(cells) | Self::Time(cells) => cells.put(value.as_i64()),
            Self::Millis(cells) => cells.put(value.as_f64()),
            Self::Truth(cells) => cells.put(value.as_bool()),
        }
    }

    fn put_bytes(&mut self, bytes: Option<Vec<u8>>) {
        if let Self::Text(cells) | Self::Bytes(cells) = self {
            cells.put(bytes.map(ByteArray::from));
        }
    }

    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match self {
            Self::Text(cells) | Self::Bytes(cells) => cells.write::<ByteArrayType>(writer),
            Self::Number(cells) | Self::Time(cells) => cells.write::<Int64Type>(writer),
            Self::Millis(cells) => cells.write::<DoubleType>(writer),
            Self::Truth(cells) => cells.write::<BoolType>(writer),
        }
    }
}

impl<T> Gathered<T> {
    fn new() -> Self {
        Self {
            values: Vec::new(),
            levels: Vec::new(),
        }
    }

    fn put(&mut self, value: Option<T>) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value);
    }

    fn write<D: DataType<T = T>>(
        &mut self,
        writer: &mut SerializedColumnWriter<'_>,
    ) -> Result<(), ParquetError> {
        let column = writer.typed::<D>();
        column.write_batch(&self.values, Some(&self.levels), None)?;
        self.values.clear();
        self.levels.clear();
        Ok(())
    }
}

fn error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn columns_follow_the_fields_of_a_list() {
        let writer = ParquetWriter::begin(Vec::new()).unwrap();
        let names: Vec<&str> = writer.columns.iter().map(|column| &*column.name).collect();
        assert_eq!(names.len(), FlowItem::FIELDS.len() + 4);
        assert!(names.contains(&"agent_session_id") && names.contains(&"response_body"));
        assert!(names.iter().all(|name| !name.contains('.')));
        let mut file = Vec::new();
        let writer = ParquetWriter::begin(&mut file).unwrap();
        assert_eq!(writer.finish().unwrap(), 0);
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        assert_eq!(reader.get_row_iter(None).unwrap().count(), 0);
    }
}
