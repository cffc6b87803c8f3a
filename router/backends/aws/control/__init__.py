"""What was bought on AWS, what does AWS count, and how is more of it made?

None of this is on the way of a request. `provisioned` lists, buys and gives back provisioned throughput; `cloudwatch`
reads what AWS counted; `counts` are our own figures for the same minutes; `watch` describes and reconciles each minute;
`optimization` runs jobs that make a faster variant of a model; `clients` are the SDK's clients for all of it.
"""
