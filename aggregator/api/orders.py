"""Serve what was asked for, and what became of it."""

import flask

from aggregator.api import verbs
from aggregator.api.model import OrderLine, OrderLines
from aggregator.control.orders import Order
from aggregator.federation import view as views
from aggregator.federation.view import View
from aggregator.services import Services
from node.http import face
from node.model.ids import JobId


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes below /v1/orders."""
    routes = flask.Blueprint("orders", __name__)

    def order_list() -> OrderLines:
        view = services.mirror.view
        return OrderLines(tuple(line(view, each) for each in services.orders.list()))

    def show(order_id: str, wait_s: float = 0.0) -> OrderLine:
        order = services.orders.wait(JobId(order_id), wait_s)
        return line(services.mirror.view, order)

    face.bind(routes, verbs.ORDER_LIST, order_list)
    face.bind(routes, verbs.ORDER_SHOW, show)
    return routes


def line(view: View, order: Order) -> OrderLine:
    """Return what a list shows of an order."""
    return OrderLine(
        order.order_id,
        order.verb,
        order.name,
        order.state,
        order.created_at,
        order.progress_percent,
        order.step,
        order.vm_id,
        views.node_name(view, order.node_id),
        order.ended_at,
        order.error,
        order.user,
        order.object_id,
        views.node_name(view, order.data_node_id),
    )
