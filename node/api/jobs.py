"""Serve the jobs of this node."""

import flask

from node.http import face
from node.jobs import Jobs
from node.model import verbs
from node.model.ids import JobId
from node.model.job import Job
from node.model.requests import JobList


def blueprint(jobs: Jobs) -> flask.Blueprint:
    """Return the routes below /v1/jobs."""
    routes = flask.Blueprint("jobs", __name__)

    def job_list() -> JobList:
        return JobList(jobs.list())

    def show(job_id: str, wait_s: float = 0.0) -> Job:
        return jobs.get(JobId(job_id), wait_s)

    def cancel(job_id: str) -> Job:
        return jobs.cancel(JobId(job_id))

    face.bind(routes, verbs.JOB_LIST, job_list)
    face.bind(routes, verbs.JOB_SHOW, show)
    face.bind(routes, verbs.JOB_CANCEL, cancel)
    return routes
