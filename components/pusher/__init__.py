"""The Pusher stage: puts an approved model where a model server finds it."""
