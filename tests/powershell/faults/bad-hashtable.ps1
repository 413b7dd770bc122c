$table = @{ Name = 'a' Size = 3 }
