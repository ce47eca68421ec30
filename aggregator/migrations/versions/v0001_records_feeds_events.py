"""Make the first tables: records, feeds, documents, events."""

import sqlalchemy
from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "records",
        Column("collection", Text, nullable=False),
        Column("id", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("body", Text, nullable=False),
        sqlalchemy.PrimaryKeyConstraint("collection", "id"),
    )
    op.create_table(
        "feeds",
        Column("node_id", Text, primary_key=True),
        Column("epoch", Text, nullable=False),
        Column("rev", BigInteger, nullable=False),
        Column("boot_id", Text, nullable=False),
        Column("events_acknowledged", BigInteger, nullable=False),
    )
    op.create_table(
        "documents",
        Column("node_id", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("id", Text, nullable=False),
        Column("rev", BigInteger, nullable=False),
        Column("body", Text, nullable=False),
        sqlalchemy.PrimaryKeyConstraint("node_id", "kind", "id"),
    )
    op.create_table(
        "events",
        Column(
            "seq",
            BigInteger().with_variant(Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        Column("at", Text, nullable=False),
        Column("code", Text, nullable=False),
        Column("fields", Text, nullable=False),
        Column("node_id", Text),
        Column("vm_id", Text),
        Column("user_name", Text),
        Column("correlation_id", Text),
        Column("boot_id", Text),
        Column("number", BigInteger),
        sqlalchemy.UniqueConstraint(
            "node_id", "boot_id", "number", "at", name="events_origin"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_vm", "events", ["vm_id", "seq"])
    op.create_index("events_of_node", "events", ["node_id", "seq"])


def downgrade() -> None:
    for table in ("events", "documents", "feeds", "records"):
        op.drop_table(table)
