package dlq

import "context"

func (r *Redis) ClaimDelivery(ctx context.Context, c DeliveryClaim) ([]Leased, error) { panic("stub") }

func (r *Redis) Canceled(ctx context.Context, sink, deliveryID string) (bool, error) { panic("stub") }
func (r *Redis) Uncancel(ctx context.Context, sink, deliveryID string) error         { panic("stub") }
func (r *Redis) PruneCanceled(ctx context.Context, sink string) (int64, error)       { panic("stub") }
