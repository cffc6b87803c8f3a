"""Who stands in for the world? Real protocols on loopback, with fault switches."""
