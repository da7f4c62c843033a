# One page: delivery, delay, and the backlog.

locals {
  # Three graphs per row. Each has a line per source, metric and statistic.
  graphs = concat(
    [for graph in [
      { title = "Rows by result", metrics = ["rows", "sent", "static", "excluded", "foreign"], statistics = ["Sum"] },
      { title = "Malformed and rejected rows, lost objects, unreadable values", metrics = ["malformed", "rejected", "lost", "unreadable"], statistics = ["Sum"] },
      { title = "Retries, requeues, delays and failures", metrics = ["retries", "requeues", "messages_delayed", "dead_letters", "unconfigured"], statistics = ["Sum"] },
      { title = "Delivery lag: CloudFront to bridge", metrics = ["delivery_lag"], statistics = ["p50", "p95", "Maximum"] },
      { title = "Bridge latency", metrics = ["bridge_latency"], statistics = ["p50", "p95", "p99"] },
      { title = "Age of retried jobs", metrics = ["retry_age"], statistics = ["Maximum"] },
      { title = "Bytes", metrics = ["bytes_in", "bytes_out"], statistics = ["Sum"] },
      { title = "Batches and token requests", metrics = ["batches", "token_requests"], statistics = ["Sum"] },
      { title = "Time per object", metrics = ["duration"], statistics = ["p50", "p95", "Maximum"] },
    ] : merge(graph, { of = [local.edgetap] })],
    [
      { title = "Messages in the work and dead-letter queues", of = concat([local.work_queue, local.dead_letters], local.backfill_queue, local.backfill_dead_letters), metrics = ["ApproximateNumberOfMessagesVisible"], statistics = ["Maximum"] },
      { title = "Messages in flight or delayed", of = concat([local.work_queue], local.backfill_queue), metrics = ["ApproximateNumberOfMessagesNotVisible"], statistics = ["Maximum"] },
      { title = "Age of the oldest message that was received less than three times", of = [local.work_queue], metrics = ["ApproximateAgeOfOldestMessage"], statistics = ["Maximum"] },
      { title = "Function", of = [local.lambda], metrics = ["Invocations", "Errors", "Throttles"], statistics = ["Sum"] },
    ],
  )
}

resource "aws_cloudwatch_dashboard" "edgetap" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = [
      for index, graph in local.graphs : {
        type   = "metric"
        x      = index % 3 * 8
        y      = floor(index / 3) * 6
        width  = 8
        height = 6
        properties = {
          title  = graph.title
          region = local.region
          period = 300
          yAxis  = { left = { min = 0 } }
          metrics = [
            for line in setproduct(graph.of, graph.metrics, graph.statistics) :
            concat([line[0].namespace, line[1]], flatten([for name, value in line[0].dimensions : [name, value]]), [{ stat = line[2] }])
          ]
        }
      }
    ]
  })
}
