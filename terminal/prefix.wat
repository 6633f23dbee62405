;; Puts a prefix before each line of a block: the source of the module in prefix.ts. Sixteen bytes at a time are copied
;; and looked through; behind each newline the prefix is copied.
;;
;; Memory, 71 pages of 64 KiB: the prefix at 0, the block at 64 KiB, the result at 384 KiB. Up to 16 bytes too many are
;; read behind the block and written behind the result.
(module
  (memory (export "m") 71)
  ;; Copies the bytes from $from to $end to $to, and the $length bytes at 0 behind each newline.
  ;; Returns the end of what it wrote.
  (func (export "f") (param $from i32) (param $end i32) (param $to i32) (param $length i32) (result i32)
    (local $bytes v128)
    (local $found i32)
    (local $step i32)
    (loop $again
      (v128.store (local.get $to) (local.tee $bytes (v128.load (local.get $from))))
      ;; a bit for each byte that is a newline
      (local.set $found
        (i8x16.bitmask (i8x16.eq (local.get $bytes) (i8x16.splat (i32.const 10)))))
      ;; to behind the first one, or 16
      (local.set $step
        (i32.add (i32.ctz (i32.or (local.get $found) (i32.const 0x8000))) (i32.const 1)))
      (local.set $from (i32.add (local.get $from) (local.get $step)))
      (local.set $to (i32.add (local.get $to) (local.get $step)))
      (if (local.get $found)
        (then
          (memory.copy (local.get $to) (i32.const 0) (local.get $length))
          (local.set $to (i32.add (local.get $to) (local.get $length)))))
      (br_if $again (i32.lt_u (local.get $from) (local.get $end))))
    (local.get $to)))
