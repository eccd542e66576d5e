#!/usr/bin/env python3
"""Compares what `radnode extract` wrote with reference tables of the IBSI, apart from radnode's own comparison.

usage: check-ibsi.py TABLE VALUES [TABLE VALUES]...

TABLE is the IBSI's (reference value;tolerance;tag), VALUES the CSV of one region by
`radnode extract --profile PROFILE --diagnostics --format csv`, where the profile is the table's configuration. Every row
of the table with a value must be met: within the tolerance, at the table's figures. Exit 1 where one is not.
"""

import csv
import sys
from decimal import Context, Decimal, InvalidOperation


def read_values(name):
    values = {}
    with open(name, newline="") as f:
        for row in csv.DictReader(f):
            if row["image"] != "original":
                continue
            if row["feature"] in values:
                sys.exit(f"{name}: {row['feature']} is there twice: more than one region?")
            values[row["feature"]] = row["value"], row["note"]
    return values


def is_count(tag):
    """Dimensions of images, masks and boxes, and numbers of voxels, are whole; vox_dim is in millimetres."""
    return tag.endswith(("_img", "_roi")) and not tag.startswith("vox_dim") and ("_dim_" in tag or "_vox_count_" in tag)


def as_printed(text, reference):
    """The value with as many figures as the reference shows, which are three where it ends in zeros."""
    figures = max(3, len(reference.normalize().as_tuple().digits))
    return Context(prec=figures).create_decimal(text)


def check(table, values):
    got = read_values(values)
    passed = total = 0
    with open(table, newline="") as f:
        for row in csv.DictReader(f, delimiter=";"):
            tag = row["tag"]
            if row["reference value"] == "":
                continue  # the IBSI found no agreement
            total += 1
            text, note = got.get(tag, ("", "not in the output"))
            if text == "":
                print(f"{tag}: no value: {note}")
                continue
            reference, tolerance = Decimal(row["reference value"]), Decimal(row["tolerance"])
            value = Decimal(text) if is_count(tag) else as_printed(text, reference)
            if abs(value - reference) <= tolerance:
                passed += 1
            else:
                print(f"{tag}: {text}, reference {reference} +- {tolerance}")
    print(f"{table}: {passed}/{total}")
    return total > 0 and passed == total


def main(args):
    if len(args) == 0 or len(args) % 2 != 0:
        sys.exit(__doc__)
    ok = True
    for table, values in zip(args[::2], args[1::2]):
        try:
            ok = check(table, values) and ok
        except (OSError, KeyError, InvalidOperation, csv.Error) as e:
            print(f"{table}, {values}: {e!r}")
            ok = False
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
