"""The commands on jobs."""

import click

from node.cli import render
from node.cli.context import Context, pass_context
from node.model.ids import JobId


@click.group()
def job() -> None:
    """Look at what runs."""


@job.command("list")
@pass_context
def job_list(context: Context) -> None:
    """List the jobs that run and those that ended lately."""
    reply = context.client.job_list()
    context.show(reply, lambda: render.jobs(reply.jobs))


@job.command("show")
@click.argument("job_id")
@pass_context
def job_show(context: Context, job_id: str) -> None:
    """Describe a job: how far it is, or why it failed and what to do."""
    reply = context.client.job_show(JobId(job_id))
    context.show(reply, lambda: render.job(reply))


@job.command("cancel")
@click.argument("job_id")
@pass_context
def job_cancel(context: Context, job_id: str) -> None:
    """Ask a job to stop where it safely can."""
    reply = context.client.job_cancel(JobId(job_id))
    context.show(reply, lambda: render.jobs((reply,)))
