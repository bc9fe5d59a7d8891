"""What tests share. `type_checks` comes first: what checks types is imported with the first module that is checked."""

from support import type_checks as type_checks
