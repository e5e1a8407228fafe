package dlq

// ShardsAtOnce makes a number of shards hold as soon as it is noted.
func ShardsAtOnce() Option { return func(o *options) { o.shardsHold = 0 } }

// Queue names the queue that has the dead letter.
func (id ID) Queue() string { return id.queue() }

// QueueOf names the queue of a shard.
func QueueOf(sink string, shard int) string { return queueOf(sink, shard) }
