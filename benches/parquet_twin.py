"""Writes the Parquet twin of a legacy log: `parquet_twin.py LOG CODEC OUT`, with pyarrow's defaults except for the codec.

The columns have the names and types that AWS gives them: strings, and each run of other characters in a field's name is one `_`.
"""

import gzip
import re
import sys

import pyarrow
from pyarrow import csv, parquet


def column(field):
    """`cs(User-Agent)` becomes `cs_User_Agent`."""
    return re.sub("[^A-Za-z0-9]+", "_", field).strip("_")


def main():
    log, codec, out = sys.argv[1:]
    with gzip.open(log) as text:
        text.readline()
        fields = text.readline().decode().removeprefix("#Fields:").split()
        rows = csv.read_csv(
            text,
            csv.ReadOptions(column_names=[column(field) for field in fields]),
            csv.ParseOptions(delimiter="\t", quote_char=False),
            csv.ConvertOptions(column_types={column(field): pyarrow.string() for field in fields}, strings_can_be_null=False),
        )
    parquet.write_table(rows, out, compression=codec)


if __name__ == "__main__":
    main()
